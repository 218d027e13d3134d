# `make help` lists what there is. Everything runs in .venv, made from requirements.lock on first use.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from-lock
# Test files at a time, in the order of their names, in which those that take longest (tests/pipeline) come first: else
# one of them would run alone in the end.
JOBS ?= 2

export PATH := $(CURDIR)/$(BIN):$(PATH)
# Nothing reports home unless you ask for it: MLflow here, DVC in .dvc/config.
export MLFLOW_DISABLE_TELEMETRY ?= true
export DO_NOT_TRACK ?= true
export DVC_NO_ANALYTICS ?= true

.DEFAULT_GOAL := help
.PHONY: help setup demo ui register test test-slow soak lint format bench bench-long quality readme lock images push test-containers

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F '\t' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: $(STAMP) ## make the environment .venv (Python 3.11) from requirements.lock

$(STAMP): requirements.lock pyproject.toml scripts/setup
	@scripts/setup "$(PYTHON)" $(VENV) $(STAMP)

demo: $(STAMP) ## sample data, all six steps, a promoted model, and a summary
	@scripts/demo

ui: $(STAMP) ## MLflow's page on the runs and models of this checkout
	@scripts/ui

register: $(STAMP) ## judge the trained model again, against the champion of this moment
	dvc repro --force --single-item register

test: $(STAMP) ## the tests, two files at a time (JOBS=4: four): minutes, no network
	python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: $(STAMP) ## the tests that take minutes: a browser, memory at 20,000 images
	scripts/install-test-tools
	python -m pytest -m slow

soak: $(STAMP) ## the full counts: 10,000 image files changed at random, each decoded twice or refused; 16 processes racing
	scripts/install-test-tools
	TWOFOLD_SOAK=10000 python -m pytest -s tests/slow/test_mutations.py
	TWOFOLD_RACES=16x10x5 python -m pytest -s tests/slow/test_promotion_races.py

test-containers: $(STAMP) ## of those, the ones in containers: images built, all six steps run in them
	python -m pytest -m containers

lint: $(STAMP) ## ruff, the formatter, the type checker
	ruff check .
	ruff format --check .
	mypy

format: $(STAMP) ## let ruff put the code in order
	ruff check --fix .
	ruff format .

bench: $(STAMP) ## speed beside a peer on the same work (15 minutes): make bench, or make bench B="B3 B5"
	python -m bench $(B)
	python -m bench.harness.results_page

bench-long: $(STAMP) ## those that take long, one to three rounds each (hours)
	python -m bench --long
	python -m bench.harness.results_page

quality: $(STAMP) ## five seeds on the sample data beside the published figures (an hour)
	python -m bench.studies.model_quality

readme: $(STAMP) ## write the tables of parameters and resources into README.md and docs/kubeflow.md
	python -m scripts.reference_tables

lock: ## resolve pyproject.toml anew into requirements.lock and docker/*.lock (needs uv)
	scripts/lock

images: ## the container images, tagged with the git commit (docker or podman)
	@scripts/images

push: ## push them: make push REGISTRY=ghcr.io/team
	@scripts/push
