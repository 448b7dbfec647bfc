# `make demo` and `make test` need Python 3.11 or newer and nothing else; both set up .venv first.
# On a machine with NVIDIA GPUs, `make demo JAX=cuda12` installs JAX's CUDA wheels as well.
PYTHON ?= python3
JAX ?= cpu
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(JAX)

.PHONY: demo test lint format clean

demo: $(READY)
	$(BIN)/python -m experiments.demo

test: lint
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .cache demo build *.egg-info

$(READY): requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
ifneq ($(JAX),cpu)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock 'jax[$(JAX)]'
endif
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
