# make          installs into .venv, proves manual against torch, trains MNIST with both
# make test     runs the tests, on all cores
# make lint     runs ruff
# make bench-steps  times single steps of manual, torch, JAX and scikit-learn, then an epoch with its
#               data [DATA=folder that holds MNIST/raw]
# make trust [PROCESSES=8]  counts false alarms and missed errors over 10,000 random networks (14
#               minutes on 2 cores)
# make scaling  measures what sharing a batch over processes costs (minutes)
# make bench-gpu  on a machine with a GPU: runs the tests that need one, proves both sides on it, times
#               single steps and trains MNIST there
# make fuzz     tampers with 10,000 files of each kind that handgrad reads (minutes)
# make mutants [ONLY=manual/nn/linear.py]  plants bugs, which compare must find, and then mistakes
#               all over the code, which the tests must notice (hours the first time)

PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
PYTHON ?= $(shell for p in $(PYTHONS); do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: all test fuzz trust mutants lint clean bench-steps bench-gpu scaling
all: .venv/installed
	$(BIN)/handgrad verify
	$(BIN)/handgrad bench

test: .venv/installed
	$(BIN)/python -m pytest -n auto

fuzz: .venv/installed
	HANDGRAD_FUZZ=10000 $(BIN)/python -m pytest -n auto tests/benchmarks/test_fuzz.py tests/compare/worked/test_worked_fuzz.py

trust: .venv/installed
	$(BIN)/handgrad trust $(if $(PROCESSES),--processes $(PROCESSES))

scaling: .venv/installed
	$(BIN)/python -m benchmarks.distributed.scaling

# Once with the kernels that NumPy's OpenBLAS chooses, once with those for AVX-512.
bench-steps: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[peers]'
	$(BIN)/handgrad bench --steps
	@if grep -qw avx512vl /proc/cpuinfo 2>/dev/null; then \
		OPENBLAS_CORETYPE=SkylakeX $(BIN)/handgrad bench --steps; fi
	$(BIN)/python -m benchmarks.steps.epoch $(if $(DATA),--data-root $(DATA))
	$(BIN)/handgrad bench --advise

bench-gpu: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[gpu]'
	$(BIN)/python -m pytest -m gpu
	$(BIN)/handgrad verify --device cuda
	$(BIN)/handgrad bench --steps --device cuda
	$(BIN)/handgrad bench --device cuda $(if $(DATA),--dataset mnist --data-root $(DATA))

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

mutants: .venv/installed
	$(BIN)/python -m tests.planted
	$(BIN)/python tests/mutants/run.py $(ONLY)

# Made again whenever pyproject.toml has changed.
.venv/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "handgrad needs Python 3.11 or newer (tried $(PYTHONS))" >&2; exit 1; }
	@echo "installing handgrad and what it needs into .venv (torch is large: some minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .mutants
