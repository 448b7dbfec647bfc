# `make demo` and `make test` need Python 3.11 or newer and make; they set up a virtual environment in .venv first.
#
#   PYTHON=python3.12    the Python to set up with
#   JAX=cuda12           or cuda13: JAX for NVIDIA GPUs as well
#   VENV=DIR             where to set up
#   FULL=1               the demo trains longer, and makes the picture and the numbers of the README
#   DATASET=kth DATA_DIR=DIR   the demo trains on the videos of KTH in DIR
#   N=10000, KILLS=50, SEED=0   how much `fuzz` and `torture` try
#   DEMO=DIR, DOCS=DIR   where the demo and the API reference are written
PYTHON ?= python3
JAX ?= cpu
VENV ?= .venv
VENV_LATEST ?= .venv-latest
DOCS ?= build/docs
N ?= 10000
KILLS ?= 50
SEED ?= 0

ifeq ($(filter cpu cuda12 cuda13,$(JAX)),)
$(error JAX=$(JAX): choose cpu, cuda12 or cuda13)
endif

IN_VENV = "$(VENV)/bin/python"
# Without PYTHON, an environment that is there stays, whatever its Python is.
KEEP_PYTHON = $(if $(filter file,$(origin PYTHON)),--any-python)
INSTALL = $(PYTHON) tools/environment.py install $(KEEP_PYTHON) $(if $(filter-out cpu,$(JAX)),--extra $(JAX))
# Two processes, each with whole test modules, in the order of tests/conftest.py: one compiles while the other computes.
PYTEST = -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

DEMO_OPTIONS = $(if $(DEMO),--output="$(DEMO)") $(if $(FULL),--full) $(if $(DATASET),--dataset="$(DATASET)") \
	$(if $(DATA_DIR),--data-dir="$(DATA_DIR)")

.PHONY: help demo test fuzz torture lint format docs check-lock check-install test-latest lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

demo: ## train all methods on clips that it draws itself, complete held-out clips, and write a report
	@$(INSTALL) "$(VENV)"
	$(IN_VENV) -m experiments.demo $(DEMO_OPTIONS)

test: lint ## linters, the type checker and all tests
	$(IN_VENV) $(PYTEST) -o cache_dir="$(VENV)/pytest_cache"

fuzz: ## read N damaged files and odd options (N=10000), from SEED=0
	@$(INSTALL) --extra torch --extra test "$(VENV)"
	JAX_PLATFORMS=cpu $(IN_VENV) -m tests.robustness.fuzz --count=$(N) --seed=$(SEED)

torture: ## kill every command KILLS=50 times at random moments, and compare with uninterrupted runs
	@$(INSTALL) --extra torch --extra test "$(VENV)"
	JAX_PLATFORMS=cpu $(IN_VENV) -m tests.robustness.torture --kills=$(KILLS) --seed=$(SEED)

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
	@for folder in demo demo-full demo-kth demo-kth-full "$(DEMO)"; do \
		if [ -n "$$folder" ] && grep -qs '"kind":"demo"' "$$folder/.vidcomp_jax.json"; then rm -rf "$$folder"; fi; \
	done
	rm -rf .cache build/docs
	@find . -name __pycache__ -type d -not -path './.*' -prune -exec rm -rf {} +
