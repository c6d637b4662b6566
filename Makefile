# Two commands for a newcomer: `make demo` and `make test`. Each makes its own virtual environment when it is missing.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST_ARGS ?= -n 2

.PHONY: help install demo test lint format typecheck docs clean

help:
	@echo "make demo       set up, train a model that writes spoken English as one would type it, and use it"
	@echo "make test       set up and run the tests"
	@echo "make lint       ruff (lint and format) and mypy --strict"
	@echo "make format     format the code"
	@echo "make docs       write the generated pages of docs/ anew"
	@echo "make clean      remove what the other targets made"

$(INSTALLED): setup.py constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,plot,moses]'
	@touch $@

install: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/python examples/inverse_text_normalization/demo.py

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)
	$(BIN)/python docs/make_components.py
	$(BIN)/python docs/make_migration.py

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache outputs multirun demo
