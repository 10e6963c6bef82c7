# What a person does with this repository. `make` alone lists it.

.DEFAULT_GOAL := help
.PHONY: help demo

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# KEEP=1 leaves it running after the summary.
demo: ## Show the daemon at work on a laptop: real data, real Spark, local AWS
	cargo build --workspace
	@target/debug/sluicegate-local demo $(if $(KEEP),--keep)
