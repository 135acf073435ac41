# `make train` and `make test` set up everything they need in .venv first.
PYTHON ?= python3
BIN := .venv/bin
SIGNS := data/64x64_SIGNS
# The packages that the tests last passed with; `make setup CONSTRAINTS=` takes the newest instead.
CONSTRAINTS ?= -c constraints.txt
TIMED = began=$$(date +%s) && $(1) && echo "make $@ took $$(( $$(date +%s) - began )) s"

.PHONY: setup train test test-long test-all check

.venv/.ready: requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements-dev.txt $(CONSTRAINTS)
	touch $@

setup: .venv/.ready

$(SIGNS)/manifest.json: | .venv/.ready
	$(BIN)/python data/signs/prepare.py --output $(SIGNS)

# Draws the hand signs if there are none, trains on them, and evaluates on the test split.
train: .venv/.ready $(SIGNS)/manifest.json
	@$(call TIMED,$(BIN)/python train.py --model_dir experiments/base_model && \
	$(BIN)/python evaluate.py --model_dir experiments/base_model --split test)

# The style of this project; a task of one's own need not follow it.
check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

# Everything but the tests that take minutes.
test: .venv/.ready
	@$(call TIMED,$(BIN)/python -m pytest -q -m "not slow")

# The long kill tests: 200 kills at random times, and one before every operation of a run.
test-long: .venv/.ready
	@$(call TIMED,$(BIN)/python -m pytest -q -s -m slow)

test-all: check
	@$(call TIMED,$(BIN)/python -m pytest -q)
