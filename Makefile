# Two commands do everything: `make demo` and `make test`.  Both set up what they need first.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Tests run side by side, a file on one core: what a file's tests share is made once.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
TIMES  ?= 5
# With COVERAGE=1, it is also said what they reach, and less than the floor is a failure.
FLOOR  := 93
COVER  := $(if $(COVERAGE),--cov --cov-report=term --cov-fail-under=$(FLOOR))

# What compiles the native engine when it is first used, where the system has no C compiler.
COMPILER := $(if $(shell command -v cc || command -v gcc || command -v clang),,compiler.lock)

.PHONY: help compiler demo test test-loaded test-cluster test-postgres test-storage test-deploy test-native soak soak-cluster lint lint-web docs parity parity-audiocraft lock clean

help:  ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# What a lock names is all that is installed: pip would resolve a dependency with an extra, such as
# `coverage[toml]`, anew, to the newest release, for which there is no hash.
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps

$(READY): requirements/dev.lock pyproject.toml $(COMPILER:%=requirements/%)
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --require-hashes -r requirements/dev.lock
	$(if $(COMPILER),$(PIP) --require-hashes -r requirements/$(COMPILER))
	$(PIP) --no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $@

compiler: $(READY)  ## Set up ziglang too (100 MB), which compiles the native engine for every platform
	$(PIP) --require-hashes -r requirements/compiler.lock

demo: $(READY)  ## Set up and continue the built-in prompt
	$(BIN)/python -m segue.demo

test: $(READY)  ## Set up and run the tests; with COVERAGE=1, say what they reach
	$(PYTEST) $(COVER)

test-loaded: $(READY)  ## Run the tests TIMES times (5) beside two busy loops, which must not matter
	@for loop in 1 2; do while :; do :; done & loops="$$loops $$!"; done; \
	trap 'kill $$loops' EXIT; trap 'exit 130' INT TERM; \
	for n in $$(seq $(TIMES)); do echo "run $$n of $(TIMES)"; $(PYTEST) || exit 1; done

soak: $(READY)  ## Set up and try what the service bears (twenty minutes)
	$(BIN)/python -m tests.service.soak

$(VENV)/.cluster: $(READY) requirements/cluster.lock
	$(PIP) --require-hashes -r requirements/cluster.lock
	$(BIN)/python -m pip check
	touch $@

test-cluster: $(VENV)/.cluster  ## Run the tests of a Ray cluster (installs Ray, 0.4 GB)
	$(BIN)/python -m pytest tests/service/cluster

$(VENV)/.postgres: $(READY) requirements/postgres.lock
	$(PIP) --require-hashes -r requirements/postgres.lock
	$(BIN)/python -m pip check
	touch $@

test-postgres: $(VENV)/.postgres  ## Run the tests of several fronts (apt-get install postgresql)
	$(BIN)/python -m pytest tests/service/postgres

$(VENV)/.storage: $(VENV)/.postgres requirements/storage.lock
	$(PIP) --require-hashes -r requirements/storage.lock
	$(BIN)/python -m pip check
	touch $@

test-storage: $(VENV)/.storage  ## Run the tests of shared storage on a local S3 (0.3 GB; apt-get install postgresql)
	$(BIN)/python -m pytest tests/storage

test-deploy: $(READY)  ## Check compose.yaml and deploy/ by their schemas (installs 120 MB)
	$(PIP) --require-hashes -r requirements/deploy.lock
	$(BIN)/python -m pip check
	$(BIN)/python -m pytest tests/deploy

test-native: compiler  ## Compile the native engine for other systems, and emulate Arm where qemu-user is
	$(BIN)/python -m pytest tests/engine/test_native_building.py

soak-cluster: $(VENV)/.cluster  ## Try what a cluster bears: nodes killed and stopped, restarts, workers added, many clients
	$(BIN)/python -m tests.service.cluster.soak

lint: $(READY)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory lint-web; \
	else echo "lint: no npm, so the pages' scripts and the workflows are not checked" >&2; fi

lint-web: node_modules/.package-lock.json
	npm run --silent types
	npm run --silent workflows
	npm run --silent dockerfile

node_modules/.package-lock.json: package-lock.json
	npm ci --silent --no-audit --no-fund
	touch $@

docs: $(READY)  ## Build the documentation site into dist/docs
	test -e $(VENV)/.docs || { \
	  $(PIP) --require-hashes -r requirements/docs.lock && $(BIN)/python -m pip check && \
	  touch $(VENV)/.docs; }
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs dist/docs

parity: $(READY)  ## Compare with transformers on torch, live (installs both, about 1 GB)
	test -e $(VENV)/.parity || { \
	  $(PYTHON) -m venv --clear $(VENV)/parity && \
	  $(VENV)/parity/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/parity.txt -e . && \
	  touch $(VENV)/.parity; }
	$(VENV)/parity/bin/python -m tests.parity

parity-audiocraft: $(READY)  ## Compare with AudioCraft itself, live (installs it and torch, about 1 GB)
	test -e $(VENV)/.parity-audiocraft || { \
	  $(PYTHON) -m venv --clear $(VENV)/parity-audiocraft && \
	  $(VENV)/parity-audiocraft/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/parity.txt -e . && \
	  $(VENV)/parity-audiocraft/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/parity-audiocraft.txt && \
	  touch $(VENV)/.parity-audiocraft; }
	$(VENV)/parity-audiocraft/bin/python -m tests.parity.audiocraft_run

lock:  ## Resolve the dependencies anew (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements/dev.lock
	uv pip compile pyproject.toml --extra docs --universal --python-version 3.11 \
	  --constraint requirements/dev.lock \
	  --generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements/docs.lock
	uv pip compile --group compiler --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements/compiler.lock
	uv pip compile pyproject.toml --extra cluster --universal --python-version 3.11 \
	  --constraint requirements/dev.lock \
	  --generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements/cluster.lock
	uv pip compile pyproject.toml --extra postgres --universal --python-version 3.11 \
	  --constraint requirements/cluster.lock \
	  --generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements/postgres.lock
	uv pip compile pyproject.toml --extra s3 --extra gcs --group storage --universal --python-version 3.11 \
	  --constraint requirements/cluster.lock \
	  --generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements/storage.lock
	uv pip compile pyproject.toml --extra cuda --universal --python-version 3.11 \
	  --constraint requirements/cluster.lock \
	  --generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements/cuda.lock
	uv pip compile --group image --universal --python-version 3.11 \
	  --constraint requirements/compiler.lock \
	  --generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements/image.lock
	uv pip compile --group deploy --universal --python-version 3.11 \
	  --constraint requirements/dev.lock --constraint requirements/cluster.lock \
	  --generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements/deploy.lock

clean:  ## Remove what was made
	rm -rf $(VENV) demo-out dist
