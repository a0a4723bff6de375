# make app   the page, on http://127.0.0.1:7860 (make app PORT=8000 HOST=0.0.0.0)
# make test  all tests
# make notebook  runs examples/quickstart.ipynb and stores its outputs (a minute)
# make pictures  the README's screenshots, from the page itself (five minutes)
# make benchmark-tiny  the papers' comparisons on the tiny preset (hours; goes on where it stopped)
# make benchmark-speed  speed as ratios, at published sizes (an hour or two; goes on where it stopped)
# make benchmark-memory  peak memory of ESC-Net with 171 and 847 classes (ten minutes)
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 7860
VENV := .venv
# The versions that the tests ran with; CI tests the oldest and the newest instead.
CONSTRAINTS ?= constraints.txt
# sam2 is built here, and needs no CUDA compiler for what is used of it.
PIP := SAM2_BUILD_CUDA=0 $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet
TEST_ARGS ?=
# Processes of the tests, each of them with one thread.
TEST_WORKERS ?= 2
PHOTOGRAPHS ?= ../shared/data

.PHONY: app test lint benchmark-tiny benchmark-speed benchmark-memory notebook pictures

app: $(VENV)/app.installed
	$(VENV)/bin/python app.py --host $(HOST) --port $(PORT)

test: $(VENV)/test.installed lint
	@command -v chromium >/dev/null || { \
	  echo "Installing Chromium for the browser tests"; \
	  apt-get update -qq && apt-get install -y -qq chromium; } >/dev/null 2>&1 \
	  || echo "Chromium cannot be installed here: the browser tests will be skipped"
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(TEST_WORKERS) \
	  --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

benchmark-tiny: $(VENV)/app.installed
	$(VENV)/bin/python -m benchmarks.comparisons --photographs $(PHOTOGRAPHS)

benchmark-speed: $(VENV)/app.installed
	$(VENV)/bin/python -m benchmarks.speed --missing --photographs $(PHOTOGRAPHS)

benchmark-memory: $(VENV)/app.installed
	$(VENV)/bin/python -m benchmarks.esc_net_memory

notebook: $(VENV)/test.installed
	PYTHONPATH=. $(VENV)/bin/jupyter-execute --inplace examples/quickstart.ipynb

pictures: $(VENV)/test.installed
	$(VENV)/bin/python -m tests.workbench.tour

lint: $(VENV)/test.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/codespell $$(git ls-files "*.py" "*.md" "*.toml" "*.txt" "*.js" "*.html" "*.css")

$(VENV)/app.installed: requirements.txt $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt -c $(CONSTRAINTS)
	$(PIP) --no-deps --editable .
	touch $@

$(VENV)/test.installed: $(VENV)/app.installed requirements-dev.txt
	$(PIP) -r requirements-dev.txt -c $(CONSTRAINTS)
	touch $@
