# `make demo` and `make test` need Python 3.11 or newer and make; they set up a virtual environment in .venv first.
#
#   PYTHON=python3.12    the Python to set up with
#   JAX=cuda12           or cuda13: JAX for NVIDIA GPUs as well
#   VENV=DIR             where to set up
#   DEMO=DIR, DOCS=DIR   where the demo and the API reference are written
PYTHON ?= python3
JAX ?= cpu
VENV ?= .venv
VENV_LATEST ?= .venv-latest
DEMO ?= demo
DOCS ?= build/docs

ifeq ($(filter cpu cuda12 cuda13,$(JAX)),)
$(error JAX=$(JAX): choose cpu, cuda12 or cuda13)
endif

IN_VENV = "$(VENV)/bin/python"
# Without PYTHON, an environment that is there stays, whatever its Python is.
KEEP_PYTHON = $(if $(filter file,$(origin PYTHON)),--any-python)
INSTALL = $(PYTHON) tools/environment.py install $(KEEP_PYTHON) $(if $(filter-out cpu,$(JAX)),--extra $(JAX))
# Two processes, each with whole test modules, in the order of tests/conftest.py: one compiles while the other computes.
PYTEST = -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

.PHONY: help demo test lint format docs check-lock check-install test-latest lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

demo: ## train a small model on clips that it draws itself, and show what the model learned
	@$(INSTALL) "$(VENV)"
	$(IN_VENV) -m experiments.demo --output="$(DEMO)"

test: lint ## linters, the type checker and all tests
	$(IN_VENV) $(PYTEST) -o cache_dir="$(VENV)/pytest_cache"

lint: ## linters and the type checker
	@$(INSTALL) --extra torch --extra test "$(VENV)"
	$(IN_VENV) -m ruff check --no-cache .
	$(IN_VENV) -m ruff format --no-cache --check .
	$(IN_VENV) -m mypy --cache-dir="$(VENV)/mypy_cache"

format: ## rewrite the sources as the linters want them
	@$(INSTALL) --extra torch --extra test "$(VENV)"
	$(IN_VENV) -m ruff check --no-cache --fix .
	$(IN_VENV) -m ruff format --no-cache .

docs: ## write the API reference, from the docstrings, into build/docs
	@$(INSTALL) --extra docs "$(VENV)"
	$(IN_VENV) -m tools.reference --output="$(DOCS)"

test-latest: ## all tests with the newest versions that setup.cfg allows, in .venv-latest
	@$(INSTALL) --latest --extra torch --extra test "$(VENV_LATEST)"
	"$(VENV_LATEST)/bin/python" -m pip list --disable-pip-version-check
	"$(VENV_LATEST)/bin/python" $(PYTEST) -o cache_dir="$(VENV_LATEST)/pytest_cache"

lock: ## write requirements.lock after a change of setup.cfg; UPGRADE=1 takes the newest versions
	@$(INSTALL) --extra tools "$(VENV)"
	$(IN_VENV) -m tools.lock write $(if $(UPGRADE),--upgrade)

check-lock: ## check that the lock resolves on every supported platform and Python (needs the network)
	@$(INSTALL) --extra tools "$(VENV)"
	$(IN_VENV) -m tools.lock check

check-install: ## build the wheel and the sdist, install them without make, and use them (needs the network)
	@$(INSTALL) --extra tools "$(VENV)"
	$(IN_VENV) -m tools.check_install

clean: ## remove the environments, the caches, the demo and the reference that make made
	@$(PYTHON) tools/environment.py remove "$(VENV)"
	@$(PYTHON) tools/environment.py remove "$(VENV_LATEST)"
	rm -rf .cache "$(DEMO)" build/docs
	@find . -name __pycache__ -type d -not -path './.*' -prune -exec rm -rf {} +
