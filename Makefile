# Everything lives in .venv. Each target does its own set-up; the stamp makes the second time quick.
PYTHON ?= python3
VENV   := .venv
STAMP  := $(VENV)/.installed-test
LINTED := $(VENV)/.installed-dev
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test slow lint setup

demo: $(STAMP)
	$(VENV)/bin/vqtok demo

test: $(STAMP)
	$(VENV)/bin/python -m pytest

slow: $(STAMP)
	$(VENV)/bin/python -m pytest -m slow

lint: $(LINTED)
	$(VENV)/bin/ruff check .

setup: $(STAMP)

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(VENV)/bin/pip
	@echo 'Installing into $(VENV): about 6 GB and a few minutes the first time.'
	$(VENV)/bin/python -m pip install --editable '.[test]'
	@touch $@

$(LINTED): pyproject.toml | $(STAMP)
	$(VENV)/bin/python -m pip install --editable '.[dev]'
	@touch $@
