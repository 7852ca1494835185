# make demo    set everything up and run the main job on this machine (ONCE=1 ends it after the job)
# make bench   measure the main job beside a plain handler that does the same, on the disk that its bars were set on
# make test    set everything up, check layers, types and style, and run all tests
# make docs    write the documentation as a site into site/; a link that leads nowhere is an error
# make reference    write docs/plugin-reference.md from the code
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The demo needs less; what is installed for the tests is enough for it, too.
DEMO := $(if $(wildcard $(INSTALLED)),$(INSTALLED),$(VENV)/.installed-demo)
ONCE ?=
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
# A file's tests stay together: they share the servers that they start.
IN_PARALLEL := --numprocesses auto --dist loadfile

.PHONY: demo test test-deep bench lint format docs reference clean

demo: $(DEMO)
	$(BIN)/orchestrator demo $(if $(ONCE),--once)

test: lint
	$(BIN)/pytest $(IN_PARALLEL)

test-deep: $(INSTALLED)
	ORCHESTRATOR_DEEP=1 $(BIN)/pytest $(IN_PARALLEL)

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks --flush-ms 4

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(SITE)

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)
	$(SITE)

reference: $(INSTALLED)
	$(BIN)/python -m orchestrator.kit.reference > docs/plugin-reference.md

clean:
	rm -rf $(VENV) data/sandbox site .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache

# Bytecode is compiled at install: otherwise each new process would compile Prefect anew.
define install
$(PYTHON) -m venv $(VENV)
$(BIN)/python -m pip install --upgrade --progress-bar on "pip>=24" -c constraints.txt
$(BIN)/python -m pip install --progress-bar on --compile --constraint constraints.txt --editable ".[$(1)]"
touch $@
endef

$(INSTALLED): pyproject.toml constraints.txt
	$(call install,dev)

$(VENV)/.installed-demo: pyproject.toml constraints.txt
	$(call install,sandbox)
