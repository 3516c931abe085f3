# Two commands: make demo, make test. Both set up .venv from the pinned constraints first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet -c constraints.txt
NPROCS ?= $(shell nproc)
DEMO ?= demo

.PHONY: demo test test-real test-slow lint bench docs clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e .
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(PIP) -e '.[test]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/brainage-tools demo $(DEMO)

test: $(VENV)/.test-installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(NPROCS) --dist worksteal -q

test-slow: $(VENV)/.test-installed
	$(BIN)/pytest -q -m slow

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

bench: $(VENV)/.test-installed
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs:
	$(PYTHON) -m venv $(VENV)
	$(PIP) '.[docs]'
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
