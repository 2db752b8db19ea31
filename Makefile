# make demo: everything on synthetic CT, from nothing to the table. make setup: only .venv.
# make test: the tests; make test-long: those that take minutes; make test-peers: scores and networks beside other libraries.
# make viewer: the 3D viewer for reports (needs npm).
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Without byte code every start would parse the libraries anew.
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
RAW ?= PATH

VIEWER := liver_jax/report/assets/viewer

.PHONY: setup demo viewer test test-long test-peers lint clean

setup: .venv/ready

.venv/ready: requirements.lock pyproject.toml
	@echo 'installing into .venv (about half a minute)'
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'make: Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11' >&2; exit 2; }
	@$(PYTHON) -m venv .venv
	@if $(BIN)/pip install --quiet --disable-pip-version-check uv 2>/dev/null; then \
	  $(UV) --require-hashes -r requirements.lock && $(UV) --no-deps -e .; \
	else \
	  $(BIN)/pip install --quiet --require-hashes -r requirements.lock && $(BIN)/pip install --quiet --no-deps -e .; \
	fi
	@touch $@

demo: setup
	@test -d demo/raw || $(BIN)/liver-jax phantom --out=demo/raw --patients=16 --seed=0
	@$(BIN)/liver-jax compare --config=configs/quickstart.py --workdir=demo/run
	@echo
	@echo 'On real LiTS, with the folder as downloaded:'
	@echo '  $(BIN)/liver-jax compare --config=configs/lits.py --config.data.raw=$(RAW) --workdir=runs/lits'

# NiiVue, the 3D viewer of `liver-jax report`, as package-lock.json pins it; without it the report has no 3D view.
viewer: $(VIEWER)/niivue.umd.js

$(VIEWER)/niivue.umd.js: $(VIEWER)/package-lock.json
	@mkdir -p build/viewer && cp $(VIEWER)/package.json $(VIEWER)/package-lock.json build/viewer
	@npm ci --prefix build/viewer --ignore-scripts --no-audit --no-fund --silent
	@cp build/viewer/node_modules/@niivue/niivue/dist/niivue.umd.js $@

test: setup
	@$(BIN)/python -m pytest -n 2 --dist loadfile

# What takes minutes: many processes, many kills, SLURM.
test-long: setup
	@$(BIN)/python -m pytest -m long

# Parity with MONAI, torchmetrics, medpy and PyTorch, which are a gigabyte and so have a place of their own.
test-peers: build/peers/ready
	@build/peers/bin/python -m pytest --noconftest -W default tests/peers/parity.py tests/peers/network.py

build/peers/ready: tests/peers/requirements.txt
	@$(PYTHON) -m venv build/peers
	@build/peers/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@! grep -n '://' requirements.lock || { echo 'requirements.lock names a host' >&2; exit 1; }

clean:
	rm -rf demo build .cache .pytest_cache .mypy_cache .ruff_cache
