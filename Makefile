# What a new machine needs: Python 3.11 to 3.13 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
INSTALLED := $(VENV)/.installed
TOOLS := chromium prometheus slowhttptest
# Some systems call the browser chromium-browser.
LACKING = for tool in $(TOOLS); do \
	  command -v $$tool >/dev/null || command -v $$tool-browser >/dev/null || echo $$tool; done

.PHONY: setup tools check test test-slow demo stop bench lock clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt '.[offline-model,dev]'
	touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(RUN) -m pytest -q tests/unit/test_layers.py

# Programs that some tests want, and which skip, visibly, without: a browser for the page and the
# reports, promtool and Prometheus, clients that drip. RUNLEVEL=1: no service is started.
tools:
	@lacking=$$($(LACKING)); test -z "$$lacking" || test "$$(id -u)" != 0 \
	  || ! command -v apt-get >/dev/null || { apt-get update -q; for tool in $$lacking; do \
	  RUNLEVEL=1 apt-get install -q -y --no-install-recommends $$tool; done; } || true
	@lacking=$$($(LACKING)); test -z "$$lacking" \
	  || echo "Without" $$lacking "tests will skip; only root can install them."

test: setup tools
	$(RUN) -m pytest -m "not slow"

test-slow: setup
	$(RUN) -m tests.ci --slow

demo: setup
	$(RUN) -m tests.end_to_end.demo

stop:
	test ! -x $(RUN) || $(RUN) -m cluster.local down

bench: setup
	@echo "Each benchmark is a program of its own; BENCHMARKS.md has the commands:"
	@ls tests/benchmarks/*.py

# Makes constraints.txt anew with pip's own resolver.
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet 'pip-tools>=7.5'
	printf 'torch==2.13.0\n' > $(VENV)-lock/pins.txt
	$(VENV)-lock/bin/pip-compile --quiet --strip-extras --all-extras --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --constraint $(VENV)-lock/pins.txt \
	  --output-file constraints.txt pyproject.toml
	# Any build of that version: CPU here, CUDA where there are GPUs.
	sed -i 's/^torch==\([0-9.]*\)+.*/torch==\1/' constraints.txt
	rm -rf $(VENV)-lock

clean: stop
	rm -rf $(VENV) .switchyard build *.egg-info
