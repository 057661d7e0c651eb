# Each target is a line that a person could type; README.md has the same lines for machines without make.
PYTHON ?= python3
BASE ?= main
JOBS ?= $(shell nproc 2> /dev/null || echo 2)
MODEL = $(shell sed -n 's/^ *registered_model: *//p' params.yaml)
IMAGE = $(shell echo $(MODEL) | tr A-Z a-z)
quote = '$(subst ','\'',$(1))'
PRODUCTION = models:/$(MODEL)/Production
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
export DVC_NO_ANALYTICS = 1
export MLFLOW_DISABLE_TELEMETRY = true
export MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR = false
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db

.DEFAULT_GOAL := help
.PHONY: help setup repro new houses test test-fast lint ui serve docker report bench team team-down

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

setup: .venv/ready ## create .venv from requirements.lock; every target does this first when it is needed

.venv/ready: requirements.lock
	@echo "Setting up .venv from requirements.lock (about half a minute)"
	@rm -rf .venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; try make PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock
	@pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock
	@uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	@touch $@

repro: .venv/ready ## train, score and register what changed, as many models side by side as there are cores (JOBS)
ifneq ($(JOBS),1)
	python -m stages.train_all --jobs $(JOBS)
endif
	dvc repro

new: .venv/ready ## a table of your own: TABLE=<file> TARGET=<column> NAME=<model>, or DICTIONARY=<file> for TARGET
	@python -m stages.switch $(call quote,$(NAME)) --table $(call quote,$(TABLE)) --target $(call quote,$(TARGET)) --dictionary $(call quote,$(DICTIONARY)) $(if $(FORCE),--force)

houses: .venv/ready ## back from it to the houses, as git has them
	@python -m stages.switch HousePricesPredictor $(if $(FORCE),--force)

test: .venv/ready ## all tests; `make test-fast` leaves out those that run the whole pipeline
	pytest

test-fast: .venv/ready
	pytest -m "not slow"

lint: .venv/ready ## style and types
	ruff check .
	ruff format --check .
	mypy stages benchmarks

ui: .venv/ready ## MLflow's pages at http://localhost:5000
	@python -m stages.ui

serve: .venv/ready ## the model in Production over REST at http://localhost:1234
	python -m stages.serve --port 1234

docker: .venv/ready ## an image that serves the model; where no Docker engine runs, the Dockerfile for it
	@if docker info > /dev/null 2>&1; then \
		mlflow models build-docker --model-uri $(PRODUCTION) --name $(IMAGE); \
	else \
		mlflow models generate-dockerfile --model-uri $(PRODUCTION) --output-directory docker && \
		echo "No Docker engine runs here. Where one does: docker build -t $(IMAGE) docker"; \
	fi

.venv/team: .venv/ready team.lock
	@uv pip install --quiet --compile-bytecode --require-hashes -r team.lock
	@touch $@

.venv/cluster: .venv/ready cluster.lock
	@uv pip install --quiet --compile-bytecode --require-hashes -r cluster.lock
	@touch $@

.env:
	@umask 077; while read -r line; do case "$$line" in *=) line="$$line$$($(PYTHON) -c 'import secrets; print(secrets.token_hex(20))')";; esac; echo "$$line"; done < .env.example > $@

team: .venv/team .env ## a server for several people: PostgreSQL, an S3 store, MLflow with logins; in Docker where it runs
	@if docker info > /dev/null 2>&1; then docker compose up --detach --wait; else team/stack.sh up; fi

team-down: ## stop it; the data stay
	@if docker info > /dev/null 2>&1; then docker compose down; else team/stack.sh down; fi

report: .venv/ready ## what a reviewer asks of a change, in report/: make report BASE=main
	@.ci/report "$(BASE)"

bench: .venv/ready ## measure against the plain script and with up to 1000 times the rows; half an hour
	python -m benchmarks.bench
