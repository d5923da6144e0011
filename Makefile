# Everything runs in a local .venv that the first target makes: Python 3.11+ with venv, make and a package index suffice.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
PYTEST_ARGS ?=
# gpu-check: which CUDA (13 for drivers from 580 on, 12 for older ones), and what compute-sanitizer runs.
CUDA ?= 13
SANITIZED ?= tests/ops tests/crf tests/kernels
BIN := $(VENV)/bin
# One compute thread a worker: the tests keep the cores busy by themselves.
ONE_THREAD := ATROUSCAFFE_NUM_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

GPU_BENCHMARKS = benchmarks/gpu.py benchmarks/gpu_convolutions.py benchmarks/crf_device.py
BENCHMARKS = $(filter-out $(GPU_BENCHMARKS) benchmarks/torch_net.py,$(wildcard benchmarks/*.py))

.PHONY: help demo test lint generate bench gpu-check clean

help:
	@echo "make demo      segment two photographs, refine a scribbled one; pictures go to demo-output/"
	@echo "make test      ruff, mypy, pytest (PYTEST_ARGS=..., JOBS=$(JOBS))"
	@echo "make lint      ruff and mypy alone"
	@echo "make generate  write the generated files again: prototxt/, docs/layers.md"
	@echo "make bench     the scripts of benchmarks/, one after another"
	@echo "make gpu-check on a machine with a GPU: tests, parity with the CPU, sanitizer, benchmarks (CUDA=$(CUDA))"
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
	@for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# Two packages of CuPy must not lie over one another, so that the other CUDA's is taken away first.
OTHER_CUDA = $(if $(filter 13,$(CUDA)),12,13)

gpu-check: $(VENV)/.stamp-test
	@case "$(CUDA)" in 12|13) ;; *) echo "CUDA=$(CUDA): expected 12 or 13" >&2; exit 2;; esac
	@if [ -e $(VENV)/.stamp-cuda$(OTHER_CUDA) ]; then \
		$(BIN)/python -m pip uninstall --quiet --yes cupy-cuda$(OTHER_CUDA)x && rm $(VENV)/.stamp-cuda$(OTHER_CUDA); fi
	$(MAKE) $(VENV)/.stamp-cuda$(CUDA)
	$(BIN)/python -m atrouscaffe doctor --device cuda
	$(BIN)/python -m atrouscaffe warmup --device cuda
	$(BIN)/python -m pytest -q --require-gpu -k cuda $(PYTEST_ARGS)
	$(BIN)/python tools/gpu_parity.py
	@if command -v compute-sanitizer > /dev/null; then \
		for tool in memcheck racecheck; do echo "== compute-sanitizer --tool $$tool"; \
			compute-sanitizer --tool $$tool --error-exitcode 9 $(BIN)/python -m pytest -q --require-gpu \
				--own-allocations -k cuda $(SANITIZED) || exit 1; done; \
	else echo "compute-sanitizer is not installed (CUDA toolkits bring it): memcheck and racecheck were left out"; fi
	@for script in $(GPU_BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-output
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
