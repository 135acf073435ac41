# `make train` and `make test` set up everything they need in .venv first.
PYTHON ?= python3
BIN := .venv/bin
SIGNS := data/64x64_SIGNS

.PHONY: setup train test test-all check

# The packages that the tests last passed with; `make setup CONSTRAINTS=` takes the newest instead.
CONSTRAINTS ?= -c constraints.txt

.venv/.ready: requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements-dev.txt $(CONSTRAINTS)
	touch $@

setup: .venv/.ready

$(SIGNS)/manifest.json: | .venv/.ready
	$(BIN)/python data/signs/prepare.py --output $(SIGNS)

train: .venv/.ready $(SIGNS)/manifest.json
	@began=$$(date +%s) && \
	$(BIN)/python train.py --model_dir experiments/base_model && \
	$(BIN)/python evaluate.py --model_dir experiments/base_model --split test && \
	echo "make train took $$(( $$(date +%s) - began )) s"

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

test: check
	@began=$$(date +%s) && $(BIN)/python -m pytest -q -m "not slow" && \
	echo "make test took $$(( $$(date +%s) - began )) s"

test-all: check
	$(BIN)/python -m pytest -q
