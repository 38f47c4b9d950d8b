# Every target is a thin line over scripts/ and .venv/bin; each stage prints its time.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo pictures lint test test-slow soak fuzz bench bench-docs crds docs lock clean

BIN := .venv/bin
STAGE := scripts/stage.sh
# Tests that load programs or send traffic need root; without it the others still run.
MARKERS := not slow$(if $(filter-out 0,$(shell id -u)), and not kernel and not lab)

# Python 3.11 is the oldest we support; no address of an index is written down.
LOCK := uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	pyproject.toml

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is needed: Debian packages (root) and .venv
	@$(STAGE) setup scripts/setup.sh

demo: setup ## Real traffic while backends are killed and slow down, and while an attack is looked for (root)
	@$(BIN)/sluicegate demo

pictures: setup ## Play the demo and write the README's pictures of it anew, docs/images/ (root)
	@$(BIN)/sluicegate demo --record docs/images

lint: setup ## Style, types and layers
	@$(STAGE) "ruff check" $(BIN)/ruff check .
	@$(STAGE) "ruff format" $(BIN)/ruff format --check .
	@$(STAGE) mypy $(BIN)/mypy
	@$(STAGE) "import layers" $(BIN)/lint-imports

test: lint ## Lint and all tests but the slow ones; those that need root only as root
	@$(STAGE) tests $(BIN)/pytest -m "$(MARKERS)" --durations=10

test-slow: setup ## The slow tests: a transfer of 1 GB through three kills of the agent, and the like (root)
	@$(STAGE) "slow tests" $(BIN)/pytest -m slow --timeout 900 --durations=10

# How long each forwarding mode is under random changes, and how many frames the packet programs get.
soak: export SLUICEGATE_SOAK_SECONDS ?= 180
fuzz: export SLUICEGATE_FUZZ_FRAMES ?= 1000000
fuzz: export SLUICEGATE_FUZZ_SECONDS ?= 120

soak: fuzz ## Minutes of random changes under load, and a million frames (root); SLUICEGATE_SOAK_SEED repeats one
	@$(STAGE) soak $(BIN)/pytest tests/lab/test_lab_soak.py -p no:randomly

fuzz: setup ## A million generated frames through the packet programs, two minutes of rings for the sniffer (root)
	@$(STAGE) fuzz $(BIN)/pytest tests/dataplane/test_fuzz.py tests/unit/dpi/test_engine_fuzz.py --timeout 0

BENCH := env PYTHONPATH=tests/bench:tests/dataplane $(BIN)/python -m sluicegate_bench

# Traces that the pool part replays to each balancer.
bench: export SLUICEGATE_BENCH_SEEDS ?= 1

bench: setup ## Measure what a packet, a request and a choice cost; PART=packet|forwarding|http|pool|dpi|sniffing for one (root)
	@$(STAGE) bench $(BENCH) $(PART)

bench-docs: setup ## Write the last results of make bench into docs/performance.md
	@$(BENCH) --docs $(PART)

crds: setup ## Write deploy/crds/ anew from the models (a test fails when they differ)
	@for kind in loadbalancer dpisniffer addresspool nodestate configslice rulebundle; do \
		$(BIN)/sluicegate crds $$kind >deploy/crds/$${kind}s.sluicegate.io.yaml || exit 1; done

docs: setup ## Write docs/reference/ anew from the code (a test fails when they differ)
	@$(BIN)/python -m sluicegate_agent.reference docs/reference

lock: ## Compile requirements/ anew from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: pipx install uv" >&2; exit 1; }
	$(LOCK) --extra agent --extra operator --group dev --output-file requirements/dev.txt
	$(LOCK) --extra agent --constraint requirements/dev.txt --output-file requirements/agent.txt
	$(LOCK) --extra operator --constraint requirements/dev.txt --output-file requirements/operator.txt
	uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-deps \
		--extra dpi --no-emit-package pydantic --no-emit-package pyyaml --output-file requirements/dpi.txt pyproject.toml

clean: ## Remove .venv and everything that was built; system packages stay
	rm -rf .venv .stamps .tools build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f agent/sluicegate_agent/dpi/_native.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
