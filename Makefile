# `make train` and `make test` set up everything they need in .venv first.
PYTHON ?= python3
BIN := .venv/bin
SIGNS := data/64x64_SIGNS
# The packages that the tests last passed with; `make setup CONSTRAINTS=` takes the newest instead.
CONSTRAINTS ?= -c constraints.txt
ENGINE := core tests bench data/prepared.py data/records.py docs/notebook.py model/__init__.py $(wildcard *.py)
TIMED = began=$$(date +%s) && $(1) && echo "make $@ took $$(( $$(date +%s) - began )) s"

NAME ?=
ONLY ?=

.PHONY: setup train new test test-long test-all check check-all

# With uv where it is installed; without it, or if it fails, with pip.
.venv/.ready: requirements.txt requirements-dev.txt constraints.txt
	@echo "Installing the packages into .venv (minutes, the first time)"
	@$(PYTHON) -m venv .venv
	@began=$$(date +%s); \
	{ command -v uv >/dev/null && \
	  uv pip install --quiet --python $(BIN)/python -r requirements-dev.txt $(CONSTRAINTS); } || \
	$(BIN)/pip install --quiet -r requirements-dev.txt $(CONSTRAINTS) || exit 1; \
	echo "Installed in $$(( $$(date +%s) - began )) s"
	@touch $@

setup: .venv/.ready

$(SIGNS)/manifest.json: | .venv/.ready
	@echo "Drawing the hand signs"
	$(BIN)/python data/signs/prepare.py --output $(SIGNS)

# Draws the hand signs if there are none, trains on them, and evaluates on the test split.
train: .venv/.ready $(SIGNS)/manifest.json
	@$(call TIMED,$(BIN)/python train.py --model_dir experiments/base_model && \
	$(BIN)/python evaluate.py --model_dir experiments/base_model --split test)

# A task of your own: make new NAME=birds; with ONLY=1 the example tasks are removed.
new: .venv/.ready
	@$(BIN)/python tests/new.py "$(NAME)" $(if $(filter 1,$(ONLY)),--only)

# The tutorial as a notebook.
docs/tutorial.ipynb: docs/tutorial.md docs/notebook.py | .venv/.ready
	$(BIN)/python docs/notebook.py docs/tutorial.md docs/tutorial.ipynb

# Style and types of the engine, its scripts and tests; not of a task of one's own.
check: .venv/.ready
	$(BIN)/ruff check $(ENGINE) --exclude tests/tasks
	$(BIN)/ruff format --check $(ENGINE) --exclude tests/tasks
	$(BIN)/mypy $(ENGINE) --exclude tests/tasks

# The same of all there is: the example tasks keep to them too.
check-all: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

# Everything but the tests that take minutes, on all cores.
test: .venv/.ready
	@$(call TIMED,$(BIN)/python -m pytest -q -m "not slow" -n auto --dist loadfile)

# The long kill tests: 200 kills at random times, and one before every operation of a run.
test-long: .venv/.ready
	@$(call TIMED,$(BIN)/python -m pytest -q -s -m slow)

test-all: check-all
	@$(call TIMED,$(BIN)/python -m pytest -q)
