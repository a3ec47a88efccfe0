# make quickstart   environment, install, and a model that learns to write in minutes
# make test         environment, install, and every test
# make check        lint, format, types
# make gpu-check    what needs a GPU, checked (PLAN=first, 4 minutes) or measured (PLAN=second, 7 minutes), by
#                   the machine's own PYTHON, nothing installed; a rehearsal without a GPU (see docs/gpu.md)
# make gpu-wheels   packages for a GPU machine without a network, into .whl/
# make bench        a training step of a GPT-2 and a Llama beside other programs'
#                   (BENCH="--nanogpt DIR --litgpt PYTHON" adds those; see benchmarks/README.md)

PYTHON ?= python3
VENV ?= .venv
PLAN ?= first
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: quickstart test check gpu-check gpu-wheels bench clean

$(BIN)/linnet: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "linnet: needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (torch is large; this takes a minute or two)"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(BIN)/linnet
	$(INSTALL) --editable '.[dev]'
	@touch $@

quickstart: $(BIN)/linnet
	$(BIN)/linnet quickstart

test: $(VENV)/.dev
	$(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

gpu-check:
	$(PYTHON) benchmarks/gpu/check.py --plan $(PLAN)

gpu-wheels:
	PYTHON=$(PYTHON) benchmarks/gpu/wheels.sh

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/step.py $(BENCH)
	$(BIN)/python benchmarks/step.py --recipe quickstart --batch 16 $(BENCH)

clean:
	rm -rf $(VENV) build dist src/*.egg-info
