# make demo   install, then animate a bundled portrait with a bundled sentence, uncached and with SyncCache
# make test   install, then run the tests
# make check  lint and types
# make bench  the core benchmark (about an hour on 2 cores)

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench clean

demo: .venv/installed
	$(BIN)/synccache demo

test: .venv/installed
	$(BIN)/python -m pytest -n auto --dist worksteal

check: .venv/installed
	$(BIN)/ruff check src tests tools integrations examples
	$(BIN)/ruff format --check src tests tools integrations examples
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/synccache bench --suite core --out runs/bench

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit('Python 3.10 or newer is needed, found ' + sys.version.split()[0] if sys.version_info < (3, 10) else 0)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[all,dev]"
	touch $@

clean:
	rm -rf .venv build dist src/*.egg-info
