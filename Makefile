# Everything a newcomer needs: `make demo` and `make test` set themselves up.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c "import venv, ensurepip" 2>/dev/null && { echo $$p; break; }; done)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed

.PHONY: install demo test lint format bench faults lock clean

install: $(STAMP)

$(STAMP): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Switchhook needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@echo "installing the pinned dependencies into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

# make demo ONCE=1 plays one round and exits.
demo: install
	@$(BIN)/switchhook demo $(if $(filter 1,$(ONCE)),--once)

# Tests mostly wait, for processes and timeouts: twice as many workers as cores keep two cores busy.
WORKERS ?= 4

test: install
	@$(BIN)/python -m pytest -m "not heavy" -n $(WORKERS) --dist loadfile

# The long fault runs: the same tests as the smoke versions in `make test`, at full size.
faults: install
	@$(BIN)/python -m pytest -m heavy --timeout 1800

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: install
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: install
	@$(BIN)/python -m bench

# Pins without download addresses: versions and hashes only, valid for every platform and Python 3.11+.
lock:
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header pyproject.toml -o requirements.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra dev --extra embedded -c requirements.txt pyproject.toml -o requirements-dev.txt

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache
