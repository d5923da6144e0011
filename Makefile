# Everything runs in a local .venv that the first target makes: Python 3.11+ with venv, make and a package index suffice.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
PYTEST_ARGS ?=
BIN := $(VENV)/bin
# One compute thread a worker: the tests keep the cores busy by themselves.
ONE_THREAD := ATROUSCAFFE_NUM_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help demo test lint generate bench clean

help:
	@echo "make demo      segment two photographs, refine a scribbled one; pictures go to demo-output/"
	@echo "make test      ruff, mypy, pytest (PYTEST_ARGS=..., JOBS=$(JOBS))"
	@echo "make lint      ruff and mypy alone"
	@echo "make generate  write the generated files again: prototxt/, docs/layers.md"
	@echo "make bench     the scripts of benchmarks/, one after another"
	@echo "make clean     remove what building and testing left (not $(VENV))"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-%: pyproject.toml setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@

demo: $(VENV)/.stamp-demo
	$(BIN)/python tools/demo_photographs.py
	$(BIN)/python tools/demo.py

lint: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(JOBS) $(PYTEST_ARGS)

generate: $(VENV)/.stamp-test
	$(BIN)/python tools/make_prototxt.py
	$(BIN)/python tools/make_embedded.py
	$(BIN)/python tools/make_docs.py

bench: $(VENV)/.stamp-test
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-output
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
