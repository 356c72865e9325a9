# Every chore of the house in one word. `make demo` and `make test` set up all they need on a fresh machine.
.PHONY: demo test test-fast check bench docs clean
.DEFAULT_GOAL := help

VENV := .venv
# the first of these that runs; 3.11 is the one that the pinned set was tested with
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3 python,\
  $(if $(shell $(name) -c 'import sys; print(sys.version_info[:2] in [(3, 11), (3, 12), (3, 13)] or "")' 2>/dev/null),$(name))))
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check
# for the build of torch without CUDA on Linux: make TORCH_INDEX=https://download.pytorch.org/whl/cpu test
TORCH_INDEX ?=

help:
	@echo "make demo       points in, masks and pictures out, on the project's own volumes"
	@echo "make test       the whole suite, real windows under Xvfb included"
	@echo "make test-fast  what needs no display, under a minute"
	@echo "make check      ruff, mypy --strict, import contracts"
	@echo "make bench      the tables of the documentation, from ../shared/data where it is there"
	@echo "make docs       the documentation, in site/"

$(RUN):
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed: install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"

# torch goes first and alone: constraints.txt then keeps later lines from changing its build
$(VENV)/stamp-app: pyproject.toml constraints.txt | $(RUN)
	$(PIP) install -c constraints.txt torch $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) install -c constraints.txt -e ".[all]"
	@touch $@

$(VENV)/stamp-test: $(VENV)/stamp-app
	$(PIP) install -c constraints.txt -e . --group test
	@touch $@

$(VENV)/stamp-%: $(VENV)/stamp-app
	$(PIP) install -c constraints.txt --group $*
	@touch $@

demo: $(VENV)/stamp-app
	$(VENV)/bin/weakseg demo

test: $(VENV)/stamp-test
	@./tools/display-libraries.sh
	$(RUN) -m pytest

test-fast: $(VENV)/stamp-test
	$(RUN) -m pytest -m "not ui and not realdata and not slow"

check: $(VENV)/stamp-check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(VENV)/stamp-bench
	$(RUN) benchmarks/run.py

docs: $(VENV)/stamp-docs
	$(VENV)/bin/mkdocs build --strict

clean:
	rm -rf $(VENV) site demo_output
