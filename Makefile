# Every target sets up .venv first. PIP_ARGS goes to each pip install. PyPI's torch for Linux brings CUDA, 2.7 GB of it;
# without an NVIDIA GPU:
#   make speak PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
SDKS := build/clients/.ready

.PHONY: help speak test clients check format soak bench nano docs wheel kernels clean

help:
	@echo "make speak   set up, then speak a sentence into hello.wav"
	@echo "make test    set up, then run the test suite"
	@echo "make clients test as people use it: real clients, the page in a browser, the wheel, documented commands"
	@echo "make check   format, lint, types, layers"
	@echo "make soak    the long tests"
	@echo "make bench   the benchmarks, in their short form"
	@echo "make nano    train the small model from nothing (about three hours on two cores)"
	@echo "make docs    write docs/CLI.md and docs/OPTIONS.md from the code"
	@echo "make wheel   build the wheel for this platform into dist/, and the pure one"
	@echo "make kernels check the C of the CPU products: sanitizers, and 64-bit ARM in an emulator"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(READY): pyproject.toml constraints.txt | $(VENV)/bin/python
	@$(BIN)/python deploy/torch_ahead.py "$(MAKECMDGOALS)" $(PIP_ARGS)
	$(BIN)/python -m pip install $(PIP_ARGS) --constraint constraints.txt --editable .
	@touch $@

$(READY_DEV): $(READY)
	$(BIN)/python -m pip install $(PIP_ARGS) --constraint constraints.txt --editable ".[dev]"
	@touch $@

speak: $(READY)
	$(BIN)/voxtral speak "Hello! This is Voxtral, speaking on your own machine." -o hello.wav

test: $(READY_DEV)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -m "not slow and not clients" --numprocesses 3 --dist loadscope --no-loadscope-reorder

# Real clients want other versions of what this package needs, so they have an environment of their own.
$(SDKS): tests/clients/requirements.txt | $(VENV)/bin/python
	$(PYTHON) -m venv build/clients
	build/clients/bin/python -m pip install $(PIP_ARGS) --no-deps --requirement tests/clients/requirements.txt
	@touch $@

clients: $(READY_DEV) $(SDKS)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -m "clients and not slow" --numprocesses 2 --dist loadscope \
		tests/browser tests/clients tests/docs tests/e2e tests/faults

soak: $(READY_DEV)
	$(BIN)/python -m pytest -m slow --timeout 1800 -s

check: $(READY_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(READY_DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m benchmarks.latency --model nano --short
	$(BIN)/python -m benchmarks.throughput --model nano --short
	$(BIN)/python -m benchmarks.memory --model nano --short
	$(BIN)/python -m benchmarks.http --model nano --short
	$(BIN)/voxtral bench --model nano --seconds 4

nano: $(READY)
	PYTHON=$(BIN)/python recipes/nano.sh

docs: $(READY)
	$(BIN)/python docs/write_cli.py
	$(BIN)/python docs/write_options.py

wheel: $(READY_DEV)
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .
	VOXTRAL_PURE_WHEEL=1 $(BIN)/python -m build --wheel --no-isolation --outdir dist .

kernels:
	tests/kernels/check.sh

clean:
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis
