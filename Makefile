# Two commands: `make up` runs the demo federation, `make test` the tests. Both set up .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SCENARIO ?= consortium

.PHONY: install up test lint types e2e compose clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is needed; set PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

up: install
	$(BIN)/hansa up $(SCENARIO)

test: install lint types
	$(BIN)/pytest -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# Real processes with TLS and node authentication; kills.
e2e: install
	$(BIN)/pytest -m 'e2e or slow'

# Needs a working Docker engine with Compose v2.
compose: install
	$(BIN)/pytest -m compose tests/e2e

clean:
	rm -rf $(VENV) .hansa build *.egg-info
