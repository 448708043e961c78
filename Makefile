# `make demo` writes a dataset on this machine, `make test` runs the tests; both set up .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Naming the exact release lets pip take the CPU build (2.13.0+cpu) where an index or a wheel folder
# offers it; the default build brings gigabytes of CUDA libraries that the demo does not use.
TORCH ?= torch==2.13.0

.PHONY: demo test lint types readme check clean

demo: $(VENV)/.installed
	$(BIN)/python pipelines/magpie_pro.py

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not gpu and not network"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

readme: $(VENV)/.installed-dev
	$(BIN)/python -m magpie_steps.readme

check:
	bash .ci/run

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@
