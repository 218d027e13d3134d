# `make help` lists the targets. They run in .venv, which is made from requirements.lock on first use.
PYTHON ?= $(shell readlink -e .venv/bin/python || command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from-lock
V ?= 3.13
# Test files run at once, in the order of their names, so that the slowest ones (tests/pipeline, tests/slow/s3) start first
# and none of them runs alone at the end.
JOBS ?= 2

export PATH := $(CURDIR)/$(BIN):$(PATH)
# No telemetry by default: MLflow is set here, DVC in .dvc/config.
export MLFLOW_DISABLE_TELEMETRY ?= true
export DO_NOT_TRACK ?= true
export DVC_NO_ANALYTICS ?= true

.DEFAULT_GOAL := help
.PHONY: help setup demo ui register test test-slow soak mutants test-python lint format bench bench-long quality docs reference screenshots lock
.PHONY: images push test-containers

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F '\t' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: ## make the environment .venv from requirements.lock: make setup PYTHON=python3.13 (3.11 if there is one)
	@scripts/setup "$(PYTHON)" $(VENV) $(STAMP)

$(STAMP): requirements.lock pyproject.toml scripts/setup
	@scripts/setup "$(PYTHON)" $(VENV) $(STAMP)

demo: $(STAMP) ## make a project in demo/ for the sample data, run all six steps, promote the model, print a summary
	@scripts/demo

ui: $(STAMP) ## open the MLflow UI on the runs and models of the demo
	@cd demo && twofold open mlflow

register: $(STAMP) ## judge the demo's model again, against the current champion
	cd demo && twofold run register --only --force

test: $(STAMP) ## run the tests, two files at once (JOBS=4: four), a thread each: minutes, no network
	OMP_NUM_THREADS=1 python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: $(STAMP) ## run the slow tests: a browser, servers, memory at 20,000 images, containers
	scripts/install-test-tools
	python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "slow and not containers"
	python -m pytest -m containers

soak: $(STAMP) ## run four tests with full counts: 10,000 changed images, 16 racing processes, 60 killed steps, 300 versions
	scripts/install-test-tools
	TWOFOLD_SOAK=10000 python -m pytest -s tests/slow/test_mutations.py
	TWOFOLD_RACES=16x10x5 python -m pytest -s tests/slow/test_promotion_races.py
	TWOFOLD_KILLS=10 python -m pytest -s tests/slow/test_kills.py
	TWOFOLD_VERSIONS=300 python -m pytest -s tests/slow/test_models_list.py

mutants: $(STAMP) ## change the code in 300 places, one at a time, and see that 90 % fail a unit test (40 minutes)
	python -m scripts.mutants --jobs $(JOBS)

test-python: $(STAMP) ## run a part of the tests on another Python: make test-python V=3.12 (3.13)
	scripts/test-python $(V)

test-containers: $(STAMP) ## run the slow tests that build the images and run all six steps in containers
	python -m pytest -m containers

lint: $(STAMP) ## check with ruff, its formatter and mypy
	ruff check .
	ruff format --check .
	mypy

format: $(STAMP) ## format the code with ruff
	ruff check --fix .
	ruff format .

bench: $(STAMP) ## compare the speed with other tools (15 minutes): make bench, or make bench B="B3 B5"
	python -m bench $(B)
	python -m bench.harness.results_page

bench-long: $(STAMP) ## run the long benchmarks, one to three rounds each (hours)
	python -m bench --long
	python -m bench.harness.results_page

quality: $(STAMP) ## train ten seeds on the sample data and two generated tasks, beside a plain baseline (hours; resumes)
	python -m bench.studies.model_quality

docs: $(STAMP) ## build the documentation as a site in docs/_build, without network access
	python -m sphinx -W --keep-going -n -q -j auto docs docs/_build

reference: $(STAMP) ## write the pages of docs/reference that are generated from the code
	python -m scripts.reference

screenshots: $(STAMP) ## take the README's pictures of the demo's pages (requires make demo)
	scripts/install-test-tools
	python -m scripts.screenshots

lock: $(STAMP) ## resolve pyproject.toml into requirements.lock and docker/*.lock
	scripts/lock

images: ## build the container images, tagged with the git commit (docker or podman)
	@scripts/wheel docker/wheel
	@docker/images

push: ## push the images: make push REGISTRY=ghcr.io/team
	@docker/push
