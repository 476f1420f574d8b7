# Every target sets itself up: on a fresh machine Python 3.10+ and make are enough.
PYTHON ?= python3
VENV ?= .venv
OUT ?= runs
CORES ?= auto
# The CPU wheel comes first: a bare torch pulls gigabytes of CUDA on Linux. The index below offers it as 2.13.0+cpu,
# which pip prefers; where there is none (macOS), or no way to the index, the wheel of the package index is taken.
TORCH ?= torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

LIGHTZERO_VENV ?= .venv-lightzero
LIGHTZERO_PYTHON ?= python3.11

# Each with the huggingface_hub that it wants, beside the one torch of $(VENV).
TRANSFORMERS ?= 4.57.6 5.16.1 5.24.0
TRANSFORMERS_DIR ?= .venv-transformers

RAY ?= 2.60.0
RAY_DIR ?= .venv-ray

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
LIGHTZERO_STAMP := $(LIGHTZERO_VENV)/.installed
LIGHTZERO_PIP := $(LIGHTZERO_VENV)/bin/python -m pip --disable-pip-version-check --quiet
# Whether the index can be reached is asked once: pip would ask, wait and warn for each package that torch needs.
INSTALL_TORCH = \
	if $(PYTHON) -c 'from urllib.request import urlopen; urlopen("$(TORCH_INDEX)/torch/", timeout=5)' 2>/dev/null; then \
		echo "torch comes from $(TORCH_INDEX)"; index='--extra-index-url $(TORCH_INDEX)'; \
	else \
		echo "$(TORCH_INDEX) can't be reached, so torch comes from the package index"; index=; \
	fi; $(1) install $$index '$(TORCH)'
# Which of the guarded checks are taken away: all of them; see CONTRIBUTING.md.
SHARE ?= 0/1

.DEFAULT_GOAL := help
.PHONY: help venv validate test-lightzero test-transformers test-ray test mutations torture lint types learn bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 25
	@echo "  PYTHON=$(PYTHON) VENV=$(VENV) OUT=$(OUT) CORES=$(CORES) can be overridden, as in: make test PYTHON=python3.12"

venv: $(STAMP) ## make the virtual environment and install everything into it

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo "kv-lockstep needs Python 3.10 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)."; \
		echo "Name another one, as in: make venv PYTHON=python3.12"; exit 2; }
	@echo "Setting up $(VENV) (once, some minutes)"
	@$(PYTHON) -m venv $(VENV) || { \
		echo "No virtual environment could be made; on Debian and Ubuntu run: apt install python3-venv"; exit 2; }
	@$(call INSTALL_TORCH,$(PIP))
	@$(PIP) install --editable '.[train,dev]'
	@touch $@

validate: $(STAMP) ## train a small world model with both caches in lockstep, and judge
	@$(BIN)/kv-lockstep train --config configs/validate.toml --out $(OUT)

# In order of the folders: reordered by their number of tests, the files of few and long tests would come last.
test: $(STAMP) ## run the whole test suite
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder

mutations: $(STAMP) ## take each guarded check away and see its test fail (SHARE=1/6 takes a sixth)
	@$(BIN)/python -m tests.mutate --share $(SHARE)

torture: $(STAMP) ## kills, endings, disks, hostile candidates, mutated directories, threads: an hour or two
	@for each in ends candidates directories threads kills campaigns; do $(BIN)/python -m tests.torture.$$each || exit 1; done

test-lightzero: $(LIGHTZERO_STAMP) ## run the tests on the released LightZero, in an environment of its own
	@$(LIGHTZERO_VENV)/bin/python -m pytest tests/lightzero -n 2 --dist loadfile

# LightZero's own pins would drag in a torch with 4 GB of CUDA, so the order counts: torch, what LightZero imports,
# LightZero without its pins, this project. The wheel is for CPython 3.11 on x86-64 Linux.
$(LIGHTZERO_STAMP): pyproject.toml tests/lightzero/requirements.txt tests/lightzero/requirements-nodeps.txt
	@$(LIGHTZERO_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
		echo "LightZero 0.2.0 is built for Python 3.11; '$(LIGHTZERO_PYTHON)' is $$($(LIGHTZERO_PYTHON) --version 2>/dev/null || echo not there)."; \
		echo "Name one, as in: make test-lightzero LIGHTZERO_PYTHON=/usr/bin/python3.11"; exit 2; }
	@echo "Setting up $(LIGHTZERO_VENV) (once, 2 to 5 minutes, 1.8 GB)"
	@$(LIGHTZERO_PYTHON) -m venv $(LIGHTZERO_VENV) || { \
		echo "No virtual environment could be made; on Debian and Ubuntu run: apt install python3.11-venv"; exit 2; }
	@$(call INSTALL_TORCH,$(LIGHTZERO_PIP))
	@$(LIGHTZERO_PIP) install -r tests/lightzero/requirements.txt
	@$(LIGHTZERO_PIP) install --no-deps --only-binary LightZero -r tests/lightzero/requirements-nodeps.txt || { \
		echo "LightZero 0.2.0 could not be installed: its wheel is for CPython 3.11 on x86-64 Linux, and this is"; \
		echo "$$($(LIGHTZERO_PYTHON) -c 'import platform; print(platform.python_version(), platform.platform())')."; exit 2; }
	@$(LIGHTZERO_PIP) install --editable . 'numpy<2' pytest pytest-xdist hypothesis
	@touch $@

test-transformers: $(TRANSFORMERS:%=$(TRANSFORMERS_DIR)/%/.installed) ## run the tests on every supported transformers
	@for version in $(TRANSFORMERS); do echo "== transformers $$version"; \
		PYTHONPATH=$(TRANSFORMERS_DIR)/$$version OMP_NUM_THREADS=1 \
			$(BIN)/python -m pytest tests/transformers --numprocesses $(CORES) --dist loadfile || exit 1; done

$(TRANSFORMERS_DIR)/%/.installed: $(STAMP)
	@echo "Setting up transformers $* (once, about a minute)"
	@rm -rf $(@D)
	@$(PIP) install --target $(@D) 'transformers==$*'
	@rm -rf $(@D)/numpy $(@D)/numpy-* $(@D)/numpy.libs  # those of $(VENV), which torch was built for, are met instead
	@touch $@

test-ray: $(RAY_DIR)/.installed ## run the tests of campaigns on a real Ray
	@PYTHONPATH=$(RAY_DIR) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/ray tests/validator/campaign/test_onray.py

$(RAY_DIR)/.installed: $(STAMP)
	@echo "Setting up Ray $(RAY) (once, about a minute, 400 MB)"
	@rm -rf $(@D)
	@$(PIP) install --target $(@D) 'ray==$(RAY)'
	@touch $@

lint: $(STAMP) ## check style and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP) ## check types
	@$(BIN)/mypy

learn: $(STAMP) ## show that the embedded host learns CartPole (up to 10 minutes)
	@$(BIN)/python benchmarks/learn.py

bench: $(STAMP) ## run every benchmark
	@set -e; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file; done

clean: ## remove the virtual environment and caches (never runs)
	rm -rf $(VENV) $(LIGHTZERO_VENV) $(TRANSFORMERS_DIR) $(RAY_DIR) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage htmlcov
