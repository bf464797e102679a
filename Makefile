# Two commands: `make up` runs the demo federation, `make test` the tests. Both set up .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SCENARIO ?= consortium

.PHONY: install up test unit lint types slow e2e compose long clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is needed; set PYTHON=..." >&2; exit 1; }
	@echo "installing Hansa and its pinned packages into $(VENV): a few minutes and 2 GB the first time"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

up: install
	$(BIN)/hansa up $(SCENARIO)

test: install lint types unit

unit: install
	$(BIN)/pytest -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy does not read setuptools' package-dir: a tree of links shows it the package as it is installed.
PACKAGES := cli clients configs contract models privacy secagg server sidecar strategies
types: install
	@mkdir -p .types/hansa
	@for name in $(PACKAGES); do ln -sfn ../../$$name .types/hansa/$$name; done
	@ln -sf ../../hansa/__init__.py ../../hansa/py.typed .types/hansa/
	MYPYPATH=.types $(BIN)/mypy --package hansa

# What takes more than a few seconds, in one process or a few.
slow: install
	$(BIN)/pytest -n 2 -m 'slow and not e2e and not alone and not long'

# Real processes with TLS and node authentication, kills, and what is measured: nothing else runs beside them.
e2e: install
	$(BIN)/pytest -m '(e2e or alone) and not long'

# Needs a working Docker engine with Compose v2.
compose: install
	$(BIN)/pytest -m compose tests/e2e

# A minute and more each: stock Flower, every lie of many members. Before a release.
long: install
	$(BIN)/pytest -m long

clean:
	rm -rf $(VENV) .hansa build *.egg-info
