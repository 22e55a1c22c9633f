# Two commands do everything: `make demo` and `make test`. Both set up an environment of their own first.
#
#   PYTHON=python3.12            another interpreter (3.11 or newer)
#   TORCH_INDEX=<address>|none   where the CPU build of torch is looked for beside the usual index. The default is
#                                used only when it answers; else whatever torch pip finds by itself is taken.
#   CI=true                      a missing tool fails instead of being skipped

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PYTEST_WORKERS ?= 2
ifeq ($(origin CXX),default)
CXX := $(or $(firstword $(foreach c,g++ c++ clang++,$(shell command -v $(c)))),g++)
endif
export CXX
NATIVE := $(CURDIR)/unetq/_native/libunetq.so
PYTHON_SOURCES := setup.py scripts unetq datasets configs tests
CXX_SOURCES = $(shell find deploy/runtime \( -name '*.h' -o -name '*.hpp' -o -name '*.c' -o -name '*.cc' -o -name '*.cpp' -o -name '*.inc' \) -not -path '*/build/*')

.PHONY: help venv native wheels bench bench-arm bench-results demo test lint lint-python lint-cpp test-cpp test-python format clean distclean
.DEFAULT_GOAL := help

help:
	@echo "make demo    train, pack, run and report a small low-bit U-Net (at most 10 minutes); report in demo/report"
	@echo "make test    lint, C++ tests, Python tests"
	@echo "make wheels  Python wheels for x86_64 and aarch64, in dist/"
	@echo "make bench   time ours against other engines;  make bench-arm  count ARM instructions;  make bench-results  the page"
	@echo "make venv    only the environment ($(VENV));  make native  only the C++ library"
	@echo "make lint    ruff, mypy --strict, clang-format;  make format  apply them;  make clean / distclean"

venv: $(STAMP)

$(STAMP): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing); unetq needs Python 3.11 or newer: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
	@command -v $(firstword $(CXX)) >/dev/null || { echo "no C++ compiler ($(firstword $(CXX))): apt-get install g++, or set CXX" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@index=""; \
	if [[ "$(TORCH_INDEX)" != none ]] && $(BIN)/python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=5)' "$(TORCH_INDEX)" 2>/dev/null; \
	then index="--extra-index-url $(TORCH_INDEX)"; \
	else echo "(torch comes from pip's own index: TORCH_INDEX=$(TORCH_INDEX) is not used)"; fi; \
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools wheel; \
	$(BIN)/python -m pip install --quiet $$index -c constraints.txt --no-build-isolation -e '.[dev]'; \
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps dynamic-network-architectures # nnU-Net's networks need torch alone
	@touch $@

# The install compiles it too; this one follows changed C++ sources.
native: $(STAMP)
	@$(MAKE) --no-print-directory -C deploy/runtime OUT=$(NATIVE)

# x86_64 and aarch64, into dist/; any glibc since 2.17.
wheels: $(STAMP)
	@$(BIN)/python -m pip install --quiet -c constraints.txt ziglang
	@$(BIN)/python scripts/wheels.py

# Everything lands in deploy/runtime/bench/results; bench-results only makes the page from what is there.
# BENCH_PYTHON names another interpreter that has unetq and the engines; BENCH_COUNT the arguments of the counting.
BENCH_PYTHON ?= $(BIN)/python
BENCH := deploy/runtime/bench

bench: native
	@PYTHON="$(BENCH_PYTHON)" $(BENCH)/peers.sh

bench-arm: native
	@mkdir -p $(BENCH)/results
	@$(BENCH_PYTHON) -m unetq.bench.counted -o $(BENCH)/results/arm.json $(BENCH_COUNT)

bench-results: $(STAMP)
	@$(BENCH_PYTHON) -m unetq.bench.results $(BENCH)/results -o $(BENCH)/RESULTS.md

demo: native
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo

test: lint test-cpp test-python

lint: lint-python lint-cpp

lint-python: $(STAMP)
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	$(BIN)/mypy --strict unetq

lint-cpp: $(STAMP)
	@if [[ -x $(BIN)/clang-format ]]; then \
	  echo "clang-format --dry-run -Werror ($(words $(CXX_SOURCES)) files)"; \
	  $(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES); \
	elif [[ "$${CI:-}" == true ]]; then echo "clang-format is missing in $(VENV): pip install clang-format" >&2; exit 1; \
	else echo "skipped: C++ format (no clang-format wheel for this platform in $(VENV))"; fi

test-cpp: native
	@$(MAKE) --no-print-directory -C deploy/runtime test

# One thread a worker: torch and the workers would otherwise fight for the cores.
test-python: export OMP_NUM_THREADS := 1
test-python: native
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS)

format: $(STAMP)
	$(BIN)/ruff check --fix $(PYTHON_SOURCES)
	$(BIN)/ruff format $(PYTHON_SOURCES)
	$(BIN)/clang-format -i $(CXX_SOURCES)

clean:
	rm -rf build dist *.egg-info unetq/_native deploy/runtime/build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	rm -f $(STAMP)

distclean: clean
	rm -rf $(VENV) demo
