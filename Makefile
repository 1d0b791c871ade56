# One command each: demo, test, check, bench. All work from a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KEEP ?=

# What is compiled from it, and what was compiled for another state of it.
COMPILED = $(wildcard src/headrace/*/*.so src/headrace/*/*/*.so src/headrace/*/*.c src/headrace/*/*/*.c)

.PHONY: demo test test-slow test-clients check format bench bench-large clean

# The stamp is remade whenever the dependencies or what is compiled change.
$(VENV)/installed: pyproject.toml $(wildcard src/headrace/*/*.pyx src/headrace/engine/*/*.pyx src/headrace/engine/*/*.pxd src/headrace/engine/*/*.h)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	rm -f $(COMPILED)
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

# The rivals that only benchmarks need come with an extra of their own.
$(VENV)/bench-installed: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable ".[bench]"
	touch $@

bench: $(VENV)/bench-installed
	$(BIN)/python -m benchmarks

bench-large: $(VENV)/bench-installed
	$(BIN)/python -m benchmarks --only synthetic --points 1000000

clean:
	rm -rf $(VENV) build $(COMPILED) .mypy_cache .ruff_cache .pytest_cache .hypothesis
