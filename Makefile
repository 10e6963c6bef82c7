# What a person does with this repository. `make` alone lists it.

.DEFAULT_GOAL := help
.PHONY: help build demo chaos bench test python lint rust-tests python-tests clean

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

test: lint rust-tests python-tests ## Everything that has to pass before a change lands

lint: ## Formatting and clippy, warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

python: build ## Make the Python environment with Spark in .venv
	@target/debug/sluicegate-local python --dir .venv

rust-tests: python ## Unit, property and integration tests
	cargo test --workspace

python-tests: python ## The local AWS by its clients, requests by their models, Spark jobs, data
	.venv/bin/python -m unittest discover tests/clients
	.venv/bin/python -m unittest discover tests/models
	.venv/bin/python -m unittest discover tests/emr
	.venv/bin/python -m unittest discover tests/demo
	.venv/bin/python data/make.py --check

clean: ## Remove what was built and what the demo left
	cargo clean
	rm -rf out .venv
