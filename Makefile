# What a person does with this repository. `make` alone lists it.

.DEFAULT_GOAL := help
.PHONY: help build demo chaos bench sim sim-pairs sim-loads planted-bugs fuzz test python lint rust-tests python-tests deploy-tests iam-tests clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the daemon and the local AWS
	cargo build --workspace

# KEEP=1 leaves it running after the summary.
demo: build ## Show the daemon at work on a laptop: real data, real Spark, local AWS
	@target/debug/sluicegate-local demo $(if $(KEEP),--keep)

# SEED=n makes the same choices again; what becomes of them depends on timing.
MINUTES ?= 3
chaos: build ## Kill two daemons for some MINUTES, and check every promise from outside
	@target/debug/sluicegate-local chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

bench: ## Measure the daemon: each figure beside its aim, in out/bench
	cargo build --release --workspace
	@target/release/sluicegate-bench

# SEEDS and FROM choose the worlds.
sim: ## Play the daemon in worlds of faults and crashes, on virtual time
	cargo build --release --workspace --bin sluicegate-sim
	@target/release/sluicegate-sim boundaries
	@target/release/sluicegate-sim run --seeds $(or $(SEEDS),10000) --from $(or $(FROM),1) $(if $(SEEDS),,--all-marks)

# ALL=1 plays every pair of the larger world too: hours.
sim-pairs: ## Play every two crashes of a small world, and near and some other pairs of a larger one
	cargo build --release --workspace --bin sluicegate-sim
	@target/release/sluicegate-sim pairs --world single --all
	@target/release/sluicegate-sim pairs --world chain $(if $(ALL),--all)

sim-loads: ## Play worlds whose tasks load their output into the warehouse
	cargo build --release --workspace --bin sluicegate-sim
	@target/release/sluicegate-sim loads --seeds $(or $(SEEDS),1500) --from $(or $(FROM),1)

# SEEDS: in how many worlds each has to be found. The tables go to out/planted-bugs.
planted-bugs: ## Plant mistakes in the daemon, one at a time; each has to be found
	cargo build --release --workspace --bin sluicegate-sim --features sluicegate-sim/planted-bugs
	@target/release/sluicegate-sim planted-bugs --seeds $(or $(SEEDS),1000) --out out/planted-bugs

test: lint rust-tests python-tests deploy-tests ## Everything that has to pass before a change lands

lint: ## Formatting and clippy, warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

# Stops at the first text that breaks the parser, and says where it is kept.
FUZZ_SEEDS_envelope = src/sources/samples
FUZZ_SEEDS_config = config
SECONDS ?= 60

fuzz: ## Fuzz a parser: make fuzz TARGET=envelope|key|template|cron|config SECONDS=60
	@test -f "fuzz/fuzz_targets/$(TARGET).rs" || { \
		echo "TARGET=$(TARGET): expected envelope, key, template, cron or config" >&2; exit 2; }
	@cargo +nightly fuzz --version >/dev/null 2>&1 || { \
		echo "make fuzz needs nightly Rust and cargo-fuzz:" >&2; \
		echo "    rustup toolchain install nightly && cargo install cargo-fuzz" >&2; exit 2; }
	mkdir -p fuzz/corpus/$(TARGET)
	cargo +nightly fuzz run $(TARGET) fuzz/corpus/$(TARGET) \
		$(or $(FUZZ_SEEDS_$(TARGET)),fuzz/seeds/$(TARGET)) -- -max_total_time=$(SECONDS)

python: build ## Make the Python environment with Spark in .venv
	@target/debug/sluicegate-local python --dir .venv

# The tests of the daemon wait more than they work: more of them than there are cores.
rust-tests: python ## Unit, property and integration tests
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(( $$(nproc) * 2 ))} cargo test --workspace

python-tests: python ## The local AWS by its clients, requests by their models, Spark jobs, data
	.venv/bin/python -m unittest discover tests/clients
	.venv/bin/python -m unittest discover tests/models
	.venv/bin/python -m unittest discover tests/emr
	.venv/bin/python -m unittest discover tests/demo
	.venv/bin/python data/make.py --check

# After the Rust tests: the requests that these wrote are held against the template's policies too.
deploy-tests: python out/deploy-venv/complete ## The template: cfn-lint, deployed to moto, its policies by IAM's rules
	out/deploy-venv/bin/python -m unittest discover tests/deploy
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory iam-tests; else \
		echo "NOT RUN: the tests of the policies (make iam-tests) need Node.js with npm" >&2; fi

iam-tests: tests/iam/node_modules/.package-lock.json target/requests-sim.jsonl ## The template's policies by IAM's rules; needs Node.js with npm
	cd tests/iam && node --test

out/deploy-venv/complete: tests/deploy/requirements.txt
	.venv/bin/python -m venv --clear out/deploy-venv
	out/deploy-venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --requirement $<
	touch $@

# Every run of these tests writes it anew.
.DELETE_ON_ERROR:
target/requests-sim.jsonl: $(shell find src sim/src sim/tests local/src -name '*.rs')
	cargo test -p sluicegate-sim --test worlds -- worlds_of_faults

tests/iam/node_modules/.package-lock.json: tests/iam/package-lock.json
	cd tests/iam && npm ci --no-audit --no-fund

clean: ## Remove what was built and what the demo left
	cargo clean
	rm -rf out .venv tests/iam/node_modules
