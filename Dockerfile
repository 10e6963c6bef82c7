# syntax=docker/dockerfile:1
# The daemon, and nothing else: one static binary, certificates, a user without
# rights. For amd64; arm64 builds by the same commands, but nobody has tried it yet.
#
#   docker build --tag sluicegate:0.1.0 .
#   docker run --rm --read-only --cap-drop ALL --volume "$PWD/config:/config:ro" \
#     --env SLUICEGATE_CONFIG=/config/example.toml sluicegate:0.1.0 check
ARG RUST_VERSION=1.94.1

FROM rust:${RUST_VERSION}-slim-bookworm AS build
# The base image's release decides the versions; none of this is in the image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils ca-certificates gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# With --target, so that only the program is static: macros and build scripts cannot be.
# The image alone is worth the minutes that fat LTO takes: a tenth less to hold and to load.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target=$(rustc --print host-tuple) \
    && CARGO_PROFILE_RELEASE_LTO=fat RUSTFLAGS='-C target-feature=+crt-static' \
        cargo build --locked --release --package sluicegate --bin sluicegate --target "$target" \
    && deploy/image/root.sh "target/$target/release/sluicegate" /image

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sluicegate" \
      org.opencontainers.image.description="Opens the gate when the data has arrived: S3 arrivals to transient EMR clusters" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
# Every command finds it, the health check too.
ENV SLUICEGATE_CONFIG=/config/sluicegate.toml
# By number, since an orchestrator that refuses root must be able to tell.
USER 65532:65532
# Work under way is finished or handed back within 25 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["/sluicegate", "health"]
ENTRYPOINT ["/sluicegate"]
CMD ["run", "--log-format", "json", "--emf"]
