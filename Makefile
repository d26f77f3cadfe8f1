# Two commands do everything, set-up included: `make study` (the main job on the embedded default) and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: study test check bench docs setup setup-check clean

study: setup ## rank, evaluate and report on the embedded default; ARGS="optimizers=[cem]" overrides
	$(BIN)/wmplan study $(ARGS)

test: $(VENV)/.test ## the test suite; ARGS="-k cem" selects
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: $(VENV)/.check ## style, types, import directions, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/mkdocs build --strict --quiet --site-dir build/site

bench: setup ## measure the figures that need no data, into docs/results/; `wmplan bench <what>` measures the rest
	$(BIN)/wmplan bench study
	$(BIN)/wmplan bench ingest

docs: $(VENV)/.check ## the documentation as a site, served locally
	$(BIN)/mkdocs serve

setup: $(VENV)/.setup

$(VENV)/.setup: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (about two minutes and 3 GB, once)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.setup
	$(PIP) install --quiet -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.check: $(VENV)/.setup
	$(PIP) install --quiet -c constraints.txt -e '.[test,check]'
	@touch $@

clean: ## everything that can be made again, except the virtual environment
	rm -rf build dist site runs stores .pytest_cache .mypy_cache .ruff_cache .hypothesis
