# `make` lists the targets. Everything is installed into $(VENV), from locked and hashed requirements.
# Overridable: PYTHON (3.11 or newer), VENV, URLS (for run), ARGS (for run, up, test, test-all, bench, chaos, attack, drill, cluster), UPGRADE=--upgrade (for lock).

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run up dev test test-all lint bench chaos attack drill cluster lock clean

VENV ?= .venv
# The first working interpreter: a name on PATH may be a version manager's shim for one that is not installed.
CHECK := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	"$$name" -c '$(CHECK)' 2>/dev/null && { echo "$$name"; break; }; done)
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check -qq install

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf '  make %-8s %s\n' "$$name" "$$text"; done

run: $(VENV)/.run ## fetch and search a sample site, or pages: make run URLS="https://…"
	@$(VENV)/bin/decoder run $(ARGS) $(URLS)

up: $(VENV)/.up ## run Valkey, two workers and Flower until Ctrl-C; with Prometheus: make up ARGS=--watch
	@$(VENV)/bin/decoder up $(ARGS)

dev: $(VENV)/.dev ## set up the development environment

# In random order: the first lines of a run print its seed; ARGS="--randomly-seed=…" sets it.
PYTEST = $(VENV)/bin/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --junit-xml=junit.xml
# Coverage takes a third of the time: only for the fast tests, and only if all of them run.
COVERAGE = --cov --cov-report=term:skip-covered --cov-report=xml --cov-fail-under=90

test: $(VENV)/.dev ## run the fast tests with the coverage gate; or some of them, without it: make test ARGS="-k url"
	$(PYTEST) $(if $(ARGS),,$(COVERAGE)) -m "not full" $(ARGS)

test-all: $(VENV)/.dev ## run all tests
	$(PYTEST) --ignore=tests/cluster $(ARGS)

lint: $(VENV)/.dev ## run ruff (rules and format), mypy, import-linter and the prose rules
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m ci.prose

bench: $(VENV)/.dev ## measure missions/s beside Celery, Dramatiq and the bare loop: a table, and JSON and a plot in bench-results/
	$(VENV)/bin/python -m benchmarks.throughput --out bench-results $(ARGS)

chaos: $(VENV)/.dev ## kill workers and Valkey under load and count lost missions; or one scenario: make chaos ARGS=kill-redis
	$(VENV)/bin/python -m tests.chaos --long $(ARGS)

attack: $(VENV)/.dev ## run all attacks by outsiders at once against an honest submitter; or some: make attack ARGS="--only bombs"
	$(VENV)/bin/python -m tests.attack --long $(ARGS)

drill: $(VENV)/.dev ## trigger each alert with a real fault, and check that it arrives and ends; or one fault: make drill ARGS=redis_killed
	$(VENV)/bin/python -m tests.drill $(ARGS)

cluster: $(VENV)/.dev ## install, upgrade, break and roll back on a real Kubernetes: that of KUBECONFIG, or a new local one (needs root and Go)
	$(VENV)/bin/python -m tests.cluster $(ARGS)

# requirements/NAME.txt, installed once, and again after a change. The sets are consistent, so they share one environment.
$(VENV)/.%: requirements/%.txt pyproject.toml | $(VENV)/bin/python
	@echo "setting up $(VENV) from $<" >&2
	@$(PIP) --require-hashes --requirement $<
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/bin/python:
	@"$(PYTHON)" -c '$(CHECK)' 2>/dev/null || { \
		echo "error: no working Python 3.11 or newer with venv on PATH (tried: $(or $(PYTHON),python3.13 python3.12 python3.11 python3)); name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	@"$(PYTHON)" -m venv $(VENV)

# Without a header, index or link: they install from the index that pip is configured for. With extras: pip treats `name[extra]` as
# unpinned if only `name` is pinned, once a newer release is out.
COMPILE = uv pip compile --quiet --no-strip-extras --no-header --no-emit-index-url --no-emit-find-links --generate-hashes --universal \
	--python-version 3.11 $(UPGRADE)
LOCK = $(COMPILE) pyproject.toml requirements/build.in

lock: ## regenerate requirements/*.txt and the lock files in ci/ (needs uv and npm): make lock UPGRADE=--upgrade
	@command -v uv >/dev/null || { echo "error: no uv on PATH" >&2; exit 2; }
	$(LOCK) --all-extras --output-file requirements/dev.txt
	$(LOCK) --constraint requirements/dev.txt --output-file requirements/base.txt
	$(LOCK) --constraint requirements/dev.txt --extra worker --output-file requirements/worker.txt
	$(LOCK) --constraint requirements/dev.txt --extra flower --output-file requirements/image.txt
	$(LOCK) --constraint requirements/dev.txt --extra embedded --output-file requirements/run.txt
	$(LOCK) --constraint requirements/dev.txt --extra embedded --extra flower --output-file requirements/up.txt
	$(COMPILE) ci/requirements.in --output-file ci/requirements.txt
	cd ci && npm install --silent --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund
	cd ci && node -e 'const fs = require("fs"), file = "npm-shrinkwrap.json", lock = JSON.parse(fs.readFileSync(file)); \
		for (const item of Object.values(lock.packages)) delete item.funding; \
		fs.writeFileSync(file, JSON.stringify(lock, null, 2) + "\n")'

clean: ## remove installed, built and cached files
	rm -rf .venv* build dist *.egg-info .coverage* coverage.xml junit.xml .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
