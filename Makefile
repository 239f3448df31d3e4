# `make demo` and `make test` do all set-up themselves: they need only make and python3 (3.11 or newer).

PYTHON ?= python3
WORKERS ?= 2

bin := .venv/bin
pytest := $(bin)/python -m pytest
# Slow tests carry a marker and a target of their own; `make test` runs the rest.
marked := slow simulation flower docker browser fault statistical
empty :=
space := $(empty) $(empty)
unmarked := not ($(subst $(space), or ,$(marked)))
# An empty selection (pytest's exit 5) is said, not failed: a marker may wait for its first test.
only = $(pytest) -m $(1) || { [ $$? -eq 5 ] && echo "No test carries the marker $(1) yet."; }

# No part of a run may phone home.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1
export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-full test lint check format test-slow test-simulation test-flower test-fault test-statistical \
        test-docker test-browser compose-demo bench coverage clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## Create .venv with pinned versions (again only when pyproject or constraints change)

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Reticent needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
	  echo "Install one and name it: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "This Python cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)."; exit 1; }
	@echo "Installing into .venv (once; a few minutes)"
	@$(PYTHON) -m venv .venv
	@$(bin)/pip install --quiet --disable-pip-version-check --prefer-binary -c constraints.txt -e '.[test,simulation]'
	@touch $@

demo: setup ## Raw behaviour to consented placements on a subset of households (about 5 minutes)
	@$(bin)/reticent demo

demo-full: setup ## The same with all 2,450 households
	@$(bin)/reticent demo --full

test: setup ## Every test that needs neither minutes nor a special machine
	@$(pytest) -n $(WORKERS) -m "$(unmarked)"

lint: setup ## ruff, mypy --strict and the import contracts
	@$(bin)/ruff check .
	@$(bin)/ruff format --check .
	@$(bin)/mypy
	@$(bin)/lint-imports

check: lint test ## What a change must pass

format: setup ## Let ruff mend what it can
	@$(bin)/ruff check --fix .
	@$(bin)/ruff format .

test-slow: setup ## What takes minutes: the tutorial as written, ten thousand steps of consent, fifty processes
	@$(call only,slow)

test-simulation: setup ## Flower's simulation engine (Ray listens on every interface)
	@$(call only,simulation)

test-flower: setup ## A real SuperLink and SuperNodes on loopback
	@$(call only,flower)

test-fault: setup ## Kills, partitions and corruption of real processes
	@$(call only,fault)

test-statistical: setup ## Random mechanisms, many repetitions
	@$(call only,statistical)

test-docker: setup ## The compose file on a real container engine
	@$(call only,docker)

test-browser: setup ## The officer's desk in a headless Chromium
	@$(call only,browser)

compose-demo: setup ## The whole fleet in containers: one round, one consented and one refused placement
	@$(bin)/reticent compose-demo

bench: setup ## Figures on all households: quality, privacy, memory, speed
	@$(bin)/python -m bench

coverage: setup ## Which lines the ordinary tests reach
	@$(bin)/coverage run -m pytest -m "$(unmarked)"
	@$(bin)/coverage report

clean: ## Remove the environment and every cache (not what runs left in artifacts/)
	rm -rf .venv build dist *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
