# One command each: demo, test, check, bench. All work from a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KEEP ?=

.PHONY: demo test test-slow test-clients check format bench clean

# The stamp is remade whenever the dependencies change.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[demo,dev]"
	touch $@

demo: $(VENV)/installed
	$(BIN)/headrace demo $(if $(KEEP),--keep)

test: $(VENV)/installed
	$(BIN)/python -m pytest -m "not slow and not clients"

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

test-clients: $(VENV)/installed
	$(BIN)/python -m pytest -m clients

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
