# The two commands a newcomer needs are `make demo` and `make test`; `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo demo-stop test check benchmark fuzz lock clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## .venv with everything: dist, distd, the inspectors, the test tools

$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -e .
	touch $@

demo: install  ## a server with a sample release, published through dist; prints URL and login
	$(BIN)/python -m tests.demo

demo-stop: install  ## end the server that a demo left up
	$(BIN)/python -m tests.demo --stop

benchmark: install  ## how fast and how large publishing, inspecting, packages and large apps are, as ratios to yardsticks of the same run
	$(BIN)/python -m benchmarks.publish
	$(BIN)/python -m benchmarks.inspect
	$(BIN)/python -m benchmarks.package
	$(BIN)/python -m benchmarks.channels
	$(BIN)/python -m benchmarks.console

check: install  ## linters, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install  ## everything that must hold, on this machine
	$(BIN)/python -m pytest -n 2 --dist loadgroup

SECONDS = 10

fuzz: install  ## coverage-guided fuzzing of every reader, SECONDS=10 for each (Linux on x86-64)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-fuzz.lock
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS)

lock:  ## resolve the dependencies again, for every Python and processor that is supported
	$(PYTHON) -m pip install --quiet uv
	$(PYTHON) -m uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --extra server --extra scale --group dev pyproject.toml --output-file requirements.lock
	$(PYTHON) -m uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --group fuzz --output-file requirements-fuzz.lock

clean:  ## remove what make made
	rm -rf $(VENV) .demo .fuzz .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
