# Every target installs first what it needs, into .venv/ of this checkout, and nothing else on the machine.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
OTHER_CONFIG ?=
RECORDINGS ?= recordings/sample-zero_shot
JOB_PYTHON ?= python3.11
JOB_VENV := build/environment
OLDEST := .venv-oldest
OLDEST_SDK := azure-ai-ml==1.26.0 azure-common==1.1.28
WITH_OLDEST := rehearse/test_evidence

.PHONY: help install run test test-oldest test-live-on-twin lint types docs-check bench record-sample environment clean

help:
	@echo "make run         evaluate the bundled sample on the bundled recordings (no account, no network)"
	@echo "make test        run the test suite"
	@echo "make test-oldest rehearse a job with the oldest azure-ai-ml that may be installed"
	@echo "make install     install mmlu-pipe into $(VENV)/"
	@echo "make lint        ruff and the import floors"
	@echo "make types       mypy --strict"
	@echo "make docs-check  links, options, hooks and errors of the documentation"
	@echo "make bench       print the measurements quoted in the documentation"
	@echo "make record-sample OTHER_CONFIG=FILE   record the sample on a deployment of yours, and check the recordings"
	@echo "make environment resolve environments/requirements.txt, the packages of a job, again"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mmlu-pipe needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# One stamp per set of dependencies: a target waits for the set it needs and for no other.
$(VENV)/installed-core: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/installed-core

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/installed-test $(VENV)/installed-core

install: $(VENV)/installed-core

run: $(VENV)/installed-core
	$(BIN)/mmlu-pipe run $(ARGS)

# The blob storage and the packages of a job, for the rehearsal tests, from npm and the package index into the user's
# cache. Without them those tests are skipped, save on CI.
$(VENV)/installed-rehearsal: src/mmlu_pipe/rehearsal/azurite/package-lock.json environments/requirements.txt $(VENV)/installed-test
	@$(BIN)/python -m mmlu_pipe.rehearsal && touch $@ || test "$$CI" != true

test: $(VENV)/installed-test $(VENV)/installed-rehearsal
	$(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

# All tests of tests/live, which need Azure, against the twin: minutes.
test-live-on-twin: $(VENV)/installed-test $(VENV)/installed-rehearsal
	MMLU_PIPE_LIVE_ON_TWIN=1 $(BIN)/python -m pytest tests/live/test_on_the_twin.py $(ARGS)

# The oldest azure-ai-ml that pyproject.toml allows, beside everything else as it is pinned: one whole rehearsal.
$(OLDEST)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m venv --clear $(OLDEST)
	{ grep -v '^azure-ai-ml==' constraints.txt; printf '%s\n' $(OLDEST_SDK); } > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(OLDEST)/constraints.txt \
	  -e '.[azureml,rehearse]' hypothesis pytest pytest-recording pytest-xdist
	@touch $@

test-oldest: $(OLDEST)/installed $(VENV)/installed-rehearsal
	$(OLDEST)/bin/python -m pytest -n 3 --dist loadgroup $(WITH_OLDEST:%=tests/%.py) $(ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/installed-dev
	$(BIN)/mypy

docs-check: $(VENV)/installed-test
	$(BIN)/python -m pytest -m docs $(ARGS)

bench: $(VENV)/installed-test
	$(BIN)/python -m benchmarks $(ARGS)

record-sample: $(VENV)/installed-core
	@test -n "$(OTHER_CONFIG)" || { echo "name the deployment: make record-sample OTHER_CONFIG=other_configs.json"; exit 2; }
	$(BIN)/mmlu-pipe run --other-config $(OTHER_CONFIG) --cassette $(RECORDINGS) --record-mode new_episodes $(ARGS)
	$(BIN)/mmlu-pipe cassette check $(RECORDINGS)

environment:
	$(JOB_PYTHON) -m venv --clear $(JOB_VENV)
	$(JOB_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r environments/requirements.in
	$(JOB_VENV)/bin/python -m pip check
	head -n 1 environments/requirements.txt > $(JOB_VENV)/requirements.txt
	$(JOB_VENV)/bin/python -m pip freeze >> $(JOB_VENV)/requirements.txt
	cp $(JOB_VENV)/requirements.txt environments/requirements.txt

clean:
	rm -rf $(VENV) $(OLDEST) build dist
