# Needs Python >= 3.11, git and make; everything else comes from the package index, at the versions of constraints/.
# The environments are made once and again only when pyproject.toml or a constraints file changes.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

AIRFLOW := 3.3
OLDEST_AIRFLOW := 3.2
MAIN := .venv
CORE := .venv-core
OLDEST := .venv-airflow-$(OLDEST_AIRFLOW)
PACKAGE := --editable '.[server,postgres,mysql]'

# Nothing of the caller's Airflow, nor of the caller's environment, reaches a test.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV AIRFLOW_HOME AIRFLOW_CONFIG

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-core test-airflow test-oldest torture torture-airflow rate bench bench-airflow fuzz injection escalation model screenshots check format audit constraints clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(MAIN)/ready ## scans in a bucket become checked rows, at both endpoints, in Airflow; about two minutes
	$(MAIN)/bin/python -m tests.demo

test: test-core test-oldest test-airflow ## every test: core without Airflow, both lines of Airflow, system tests

test-core: $(CORE)/ready ## the core's tests, in an environment without Airflow
	$(CORE)/bin/python -m pytest tests/core

test-airflow: $(MAIN)/ready ## shell, server and system tests with the newest line of Airflow
	$(MAIN)/bin/python -m pytest --ignore=tests/core

test-oldest: $(OLDEST)/ready ## shell tests and both DAGs with the oldest line of Airflow
	$(OLDEST)/bin/python -m pytest tests/shell tests/system -m "dags or not system"

torture: $(MAIN)/ready ## 1 000 batches under random faults, the books balanced after each; 25 minutes; TORTURE=options
	$(MAIN)/bin/python -m tests.torture --trials 1000 --seed 1 $(TORTURE)

rate: $(MAIN)/ready ## how much of the rate is used, beside an outsider, over days; 45 minutes; RATE=options
	$(MAIN)/bin/python -m tests.rate.airflow $(RATE)
	$(MAIN)/bin/python -m tests.rate.outsider
	$(MAIN)/bin/python -m tests.rate.days

bench: $(MAIN)/ready ## benchmarks beside what people write instead, rows in build/bench; hours; BENCH="cpu --size small"
	$(MAIN)/bin/python -m tests.benchmarks $(BENCH)

bench-airflow: $(MAIN)/ready ## those that need a whole Airflow; half an hour; BENCH=options
	$(MAIN)/bin/python -m tests.benchmarks mapped sensor $(BENCH)

fuzz: $(MAIN)/ready ## a million hostile replies, 100 000 pictures, names, connections …; FUZZ="replies --count 1000 --seed 2"
	$(MAIN)/bin/python -m tests.fuzz $(or $(FUZZ),all)

injection: $(MAIN)/ready ## 5 400 right invoices with every mistake of OCR: which are seen; 20 minutes; INJECTION="--seed 2"
	$(MAIN)/bin/python -m tests.injection $(INJECTION)

escalation: $(MAIN)/ready ## 300 pictures of which the first endpoint misreads every tenth; 15 minutes; ESCALATION="--seed 2"
	$(MAIN)/bin/python -m tests.escalation $(ESCALATION)

torture-airflow: $(MAIN)/ready ## 30 crash trials of a whole Airflow, search for secrets; 45 minutes; TRIALS=options
	$(MAIN)/bin/python -m tests.torture.airflow $(TRIALS)

screenshots: $(MAIN)/ready ## the pictures of docs/review.md anew: an invoice in doubt, in Chromium; two minutes
	$(MAIN)/bin/python -m tests.system.screenshots docs/images

MINUTES ?= 10
model: $(CORE)/ready ## the ledger against a model of its laws, MINUTES on each database, seeds of its own
	MINUTES=$(MINUTES) $(CORE)/bin/python -m pytest -k long_run tests/core/test_ledger_model.py

check: $(MAIN)/ready ## format, lint, types, import boundary, documents, wheel and sdist
	$(MAIN)/bin/ruff format --check .
	$(MAIN)/bin/ruff check .
	$(MAIN)/bin/mypy
	$(MAIN)/bin/python -m pytest -q tests/test_boundaries.py tests/test_docs.py tests/test_distributions.py

format: $(MAIN)/ready ## format, mend what lint can mend, write the documents' tables
	$(MAIN)/bin/ruff format .
	$(MAIN)/bin/ruff check --fix .
	$(MAIN)/bin/python -m tests.docs_tables --write

constraints: $(MAIN)/ready ## resolve constraints/ anew, to the newest versions of each line of Airflow
	for line in $(AIRFLOW) $(OLDEST_AIRFLOW); do \
		$(MAIN)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate --no-header \
			--all-extras --group dev --constraints constraints/airflow-$$line.in \
			--output-file constraints/airflow-$$line.txt pyproject.toml || exit 1; \
	done

audit: $(MAIN)/ready ## what the package index knows against the pinned versions, and the licences; asks PyPI
	$(MAIN)/bin/python -m tests.audit constraints/*.txt

clean: ## remove the environments and everything built
	rm -rf .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call environment,folder,Airflow line,what to install)
# Compiled once: where Python may not write bytecode, each process of Airflow would compile it all anew.
define environment
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 with venv found; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	rm -rf $(1)
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints/airflow-$(2).txt uv
	$(1)/bin/uv pip install --quiet --compile-bytecode --python $(1)/bin/python \
		--constraints constraints/airflow-$(2).txt $(3)
	@touch $@
endef

$(MAIN)/ready: pyproject.toml constraints/airflow-$(AIRFLOW).txt
	$(call environment,$(MAIN),$(AIRFLOW),$(PACKAGE) --group dev)

$(OLDEST)/ready: pyproject.toml constraints/airflow-$(OLDEST_AIRFLOW).txt
	$(call environment,$(OLDEST),$(OLDEST_AIRFLOW),$(PACKAGE) --group test)

$(CORE)/ready: pyproject.toml constraints/airflow-$(AIRFLOW).txt
	$(call environment,$(CORE),$(AIRFLOW),--group core-test)
	$(CORE)/bin/uv pip install --quiet --python $(CORE)/bin/python --no-deps --editable .
	@touch $@
