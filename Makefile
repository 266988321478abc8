# Every target does its own set-up in .venv; a second run finds it done.
#
#     make demo                 see it work (no GPU needed)
#     make test                 the tests, on all cores; `make test ARGS="-m slow"` runs the slow ones,
#                               `WORKERS=0` all of them in one process, as for a debugger
#     make test-page            the page and reports in Chromium, which must be there, and jobs on a
#                               Ray cluster: minutes, in a .venv-page that has gradio and Ray
#     make check                format, lint, types, layers, generated docs (no tests)
#     make docs                 write the generated docs, and the API as a static site (site/index.html)
#     make train-bundled        train the bundled backbone from nothing (hours)
#     make bench                the benchmarks, in their quick form
#     make fuzz                 100,000 mutated cards through the reader, another seed each time
#     make clean                remove what was built; `make distclean` removes .venv too
#
# PYTHON=python3.12 chooses the interpreter, TORCH=auto|cpu|cuda|skip the build of torch (docs/install.md).

TORCH ?= auto
ARGS ?=
WORKERS ?= auto
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed-$(TORCH)
PAGE := .venv-page

.PHONY: demo test test-page check docs train-bundled bench fuzz clean distclean
.NOTPARALLEL:

demo: $(READY)
	$(BIN)/pe demo -o demo --force $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -q -n $(WORKERS) $(ARGS)

test-page: $(PAGE)/.installed-$(TORCH)
	@command -v chromium chromium-browser > /dev/null || echo "No Chromium here: what needs it is skipped." >&2
	$(PAGE)/bin/python -m pytest -q -m "slow or not slow" tests/test_ui.py tests/test_ui_browser.py \
		tests/test_report_browser.py tests/test_jobs.py $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate_cli.py --check
	$(BIN)/python docs/generate_api.py --check
	$(BIN)/python docs/check_links.py

docs: $(READY)
	$(BIN)/python docs/generate_cli.py
	$(BIN)/python docs/generate_api.py
	$(BIN)/python docs/check_links.py
	$(BIN)/python docs/generate_site.py site
	$(BIN)/python docs/check_links.py site

train-bundled: $(READY)
	$(BIN)/python -m benchmarks.backbone $(ARGS)

bench: $(READY)
	$(BIN)/python -m benchmarks.amf --quick
	$(BIN)/python -m benchmarks.transfer --quick $(ARGS)

fuzz: $(READY)
	$(BIN)/python -m benchmarks.registry fuzz $(ARGS)

clean:
	rm -rf site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -not -path './$(PAGE)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(PAGE)

$(READY): pyproject.toml .ci/setup
	PYTHON="$(PYTHON)" TORCH="$(TORCH)" sh .ci/setup $(VENV)

$(PAGE)/.installed-$(TORCH): pyproject.toml .ci/setup
	PYTHON="$(PYTHON)" TORCH="$(TORCH)" EXTRAS=ui,ray sh .ci/setup $(PAGE)
