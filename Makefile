# Lamplighter. `make demo` and `make test` do all the set-up they need; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup system kerberos base demo demo-down test lint bench torture lock docs sync clean

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
KRB5   := $(VENV)/.kerberos
# A checkout's own copy of pip's settings decides where packages come from; no index stands in any file here.
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Lamplighter needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tools/system python3-venv
	@echo "installing the locked dependencies into $(VENV) (about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

setup: $(STAMP) ## the virtual environment with the locked dependencies

system: $(STAMP) ## the Debian packages that the sandbox servers need (as root)
	@tools/system $$($(BIN)/python -m tests.lab requirements)

# Not optimised: a minute less of compiling, and a login is as fast as the domain controller either way.
$(KRB5): requirements-kerberos.lock $(STAMP)
	@tools/system gcc libkrb5-dev python3-dev
	@echo "building Kerberos for Python ..."
	@CFLAGS="-O0 -g0" $(PIP) install --require-hashes --no-build-isolation -r requirements-kerberos.lock
	@touch $@

kerberos: $(KRB5) ## the optional extra, built from source (its system packages as root)

base: $(STAMP)
	@$(BIN)/python -m tests.lab base

demo: ## a real patch run on sandbox hosts, from nothing; APPROVE=by-hand waits for you
	@tools/need-root "make demo starts real hosts in network namespaces"
	@$(MAKE) --no-print-directory setup
	@tools/system $$($(BIN)/python -m tests.lab requirements --demo)
	@$(BIN)/python -m tests.lab.demo up $(if $(filter by-hand,$(APPROVE)),--by-hand)

demo-down: ## stop the demo and remove every trace of it
	@test -x $(BIN)/python || { echo "no demo was set up here"; exit 0; }; $(BIN)/python -m tests.lab.demo down

test: $(STAMP) ## lint, then every test, against real servers
	@tools/test $(ARGS)

lint: $(STAMP) ## ruff, mypy, import floors, derived files
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/lamplighter sync --check

bench: $(STAMP) ## measure; writes docs/benchmarks/*.json
	@tools/need-root "make bench measures on sandbox hosts"
	@$(MAKE) --no-print-directory system
	@$(BIN)/python -m tests.bench $(ARGS)

torture: $(STAMP) ## the full fault and fuzz campaigns (hours); writes docs/assurance/*.json
	@tools/need-root "make torture kills real hosts and workers"
	@$(MAKE) --no-print-directory system
	@LAMPLIGHTER_TORTURE=1 $(BIN)/pytest tests/faults $(ARGS)

lock: $(STAMP) ## resolve the dependencies anew
	@$(BIN)/uv pip compile --generate-hashes --universal --python-version 3.11 --no-header -q --upgrade \
	  pyproject.toml --group dev -o requirements.lock
	@$(BIN)/uv pip compile --generate-hashes --universal --python-version 3.11 --no-header -q --upgrade \
	  --group kerberos -c requirements.lock -o requirements-kerberos.lock

docs: $(STAMP) ## the runbook book and the guides as a site with search, in build/docs
	@$(BIN)/lamplighter sync --check
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "open build/docs/index.html"

sync: $(STAMP) ## write prefect.yaml and the other derived files
	@$(BIN)/lamplighter sync

clean: demo-down ## remove what these commands made in the checkout
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
