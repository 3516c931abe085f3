# Two commands: make demo, make test. Both set up .venv from the pinned constraints first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet -c constraints.txt
NPROCS ?= $(shell nproc)
DEMO ?= demo
PYTEST := $(BIN)/pytest

.PHONY: demo test coverage test-processors test-slow test-gpu mutants lint bench bench-gpu bench-simulation bench-real docs clean

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
	OMP_NUM_THREADS=1 $(PYTEST) -n $(NPROCS) --dist worksteal -q

# the same tests; fails when they run fewer lines of the package than pyproject.toml asks for
coverage: $(VENV)/.test-installed
	rm -rf .coverage && mkdir .coverage
	$(MAKE) test PYTEST='$(BIN)/coverage run -m pytest'
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

# what computes, as older processors compute it (libraries pick their code by processor, and sums come out otherwise)
NEHALEM := OPENBLAS_CORETYPE=Nehalem ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE \
	NPY_DISABLE_CPU_FEATURES='X86_V3 X86_V4 AVX512_ICL AVX512_SPR' GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F OMP_NUM_THREADS=1
HASWELL := OPENBLAS_CORETYPE=Haswell ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=AVX2 \
	NPY_DISABLE_CPU_FEATURES='X86_V4 AVX512_ICL AVX512_SPR' OMP_NUM_THREADS=2
NUMERICAL := stats model preprocess app report phantom
test-processors: $(VENV)/.test-installed
	for kind in "$(NEHALEM)" "$(HASWELL)"; do for part in $(NUMERICAL); do echo "== $$part, $$kind"; \
		eval env "$$kind" $(BIN)/pytest -q -n $(NPROCS) --dist worksteal tests/$$part || exit 1; done; done

test-slow: $(VENV)/.test-installed
	$(BIN)/pytest -q -m slow

# on a machine with a CUDA card, with the PyTorch that fits it in $(VENV)
test-gpu: $(VENV)/.test-installed
	$(BIN)/pytest -q -m gpu

# hours: small changes of the code that the tests must notice (docs/measured.md)
mutants: $(VENV)/.test-installed
	$(PIP) 'mutmut==3.8.1'
	nice $(BIN)/python benchmarks/mutants.py

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# without real scans; phantoms and placeholders are made on the way
bench: $(VENV)/.test-installed
	for script in rnc_loss preprocess planning training group against_commit; do echo "== $$script"; $(BIN)/python benchmarks/$$script.py || exit 1; done

# on a machine with a CUDA card; about three minutes
bench-gpu: $(VENV)/.test-installed
	$(BIN)/python benchmarks/gpu.py

# simulated studies through the group statistics: false positives, power, coverage; about half an hour on one core
bench-simulation: $(VENV)/.test-installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/simulation.py --processes $(NPROCS)

# on real heads, hours: make bench-real BRAINAGE_TEST_DATA=/folder (the peers: pip install antspyx picsl-greedy)
bench-real: $(VENV)/.test-installed
	$(BIN)/python benchmarks/preprocess.py $(BRAINAGE_TEST_DATA)/ds000011
	$(BIN)/python benchmarks/invariance.py $(BRAINAGE_TEST_DATA)
	$(BIN)/python benchmarks/quality_gates.py $(BRAINAGE_TEST_DATA)
	$(BIN)/python benchmarks/recognise.py $(BRAINAGE_TEST_DATA)/ds000011/sub-*/anat/*_T1w.nii.gz $(BRAINAGE_TEST_DATA)/scans/*_*.nii.gz
	$(BIN)/python benchmarks/engines.py $(BRAINAGE_TEST_DATA)/ds000011 --work bench-work/engines --scans 12 \
		--head-template $(BRAINAGE_TEST_DATA)/template/MNI152_T1_2mmEXT_whole-head.nii.gz \
		--head-mask $(BRAINAGE_TEST_DATA)/template/MNI152_T1_2mmEXT_mask.nii.gz
	$(BIN)/python benchmarks/capture_range.py $(BRAINAGE_TEST_DATA)/ds000011 $(BRAINAGE_TEST_DATA)/scans \
		--work bench-work/capture --cases 300 --peer-cases 60 --processes $(NPROCS)

# an environment of its own: the other one holds the package as it is being worked on
docs:
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip --disable-pip-version-check install --quiet -c constraints.txt mkdocs-material
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) .venv-docs site $(DEMO) build dist *.egg-info
