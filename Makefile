# Two commands matter: `make run` and `make test`. Both make their own virtual environment.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help run demo doctor test test-unit test-clients test-browser test-faults check format lock clean

help:            ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

# --- environments: hashes pinned, no index named -------------------------------------------
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes --requirement requirements/run.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	$(PIP) install --quiet --require-hashes --requirement requirements/dev.txt
	@touch $@

# --- the main job --------------------------------------------------------------------------
run: $(VENV)/.run   ## the gateway on 127.0.0.1:8080, embedded unless URLs are set
	$(BIN)/memory-gateway serve

demo: $(VENV)/.run  ## two sessions of a scripted chatbot, no key needed
	$(BIN)/memory-gateway demo

doctor: $(VENV)/.run ## check settings and every outside part
	$(BIN)/memory-gateway doctor

# --- tests ---------------------------------------------------------------------------------
test: test-unit test-clients test-browser test-faults ## everything, in under ten minutes

test-unit: $(VENV)/.dev ## the suite without browsers, foreign clients and killed processes
	$(PYTEST) -q -m "not browser and not clients and not faults"

test-clients: $(VENV)/.dev
	$(PYTEST) -q -m clients

test-browser: $(VENV)/.dev
	$(PYTEST) -q -m browser

test-faults: $(VENV)/.dev
	$(PYTEST) -q -m faults

check: $(VENV)/.dev ## formatting, lints, types and the walls between rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lock: $(VENV)/.dev ## pin again what is installed
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade pyproject.toml requirements/build.in --output-file requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade pyproject.toml requirements/build.in --group dev --constraint requirements/run.txt --output-file requirements/dev.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
