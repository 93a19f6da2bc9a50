# Two commands for a newcomer: `make demo` and `make test`. Each does all of its own set-up.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
UV_VERSION := 0.13.9

.PHONY: help venv demo test slow torture bench check format lock clean

help:
	@echo "make demo    a local Slack stand-in, the bot and one open incident: click around"
	@echo "make test    the suite, on SQLite and PostgreSQL"
	@echo "make slow    the tests that take longer: kills between any two commits, real programs"
	@echo "make torture kills and faults on both databases, and a table of what they broke (an hour at most)"
	@echo "make bench   how fast, how much: the bot beside bare servers; minutes, QUICK=1 for fewer"
	@echo "make check   ruff, mypy --strict and the import contracts"
	@echo "make venv    only build .venv"

venv: $(STAMP)

$(STAMP): requirements.lock pyproject.toml Makefile
	@test -n "$(PYTHON)" || { echo "Tocsin needs Python 3.11 or newer. On Debian 12: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module. On Debian: apt-get install python3-venv"; exit 1; }
	@echo "Building $(VENV) (once; about half a minute) ..."
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@if $(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION) >/dev/null 2>&1; then \
		$(BIN)/uv pip install -q --compile-bytecode --require-hashes --python $(BIN)/python -r requirements.lock && \
		$(BIN)/uv pip install -q --no-deps --python $(BIN)/python -e . ; \
	else \
		echo "uv cannot be had here; using pip (slower)"; \
		$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock && \
		$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e . ; \
	fi
	@$(BIN)/python -m compileall -q bot
	@touch $@

demo: $(STAMP)
	@$(BIN)/tocsin demo

# Two for each core: a story waits more than it works.
WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
test: $(STAMP)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow"

slow: $(STAMP)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m slow

# Each fault point is the death of one process; then ROUNDS rounds of whatever goes wrong. SEED=n plays one again.
ROUNDS ?= 6
POINTS ?= 500
torture: $(STAMP)
	@$(BIN)/python -m tests.torture --rounds $(ROUNDS) --points $(POINTS) $(if $(SEED),--seed $(SEED))
bench: $(STAMP)
	@QUICK=$(QUICK) $(BIN)/python -m bench

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The lock holds hashes and no address of any registry.
lock: $(STAMP)
	$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --universal --no-header --python-version 3.11 -o requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
