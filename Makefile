# make demo               the whole flow, offline, on synthetic data
# make demo DATA=my.csv   the same on your own series (HORIZON=24 sets the steps to forecast)
# make test               lint, types and all tests, the slow ones too
# make test-oldest        the quick tests on the oldest versions that pyproject.toml admits; make test-newest: on the newest
#                         TORCH= lifts the limit to the torch of requirements.lock, whose Linux builds are large
# make lint               black, isort, flake8 and mypy
# make docs               the documentation as a site: build/site/index.html
# make format             let black and isort rewrite the code
# make pretrain           train builtin:chronos2-synth again: 3 to 5 hours on two cores; continues where it was stopped

PYTHON ?= python3
HORIZON ?= 48
DATA ?=
TORCH ?= $(shell sed -n 's/^torch==//p' requirements.lock)
BIN := .venv/bin
DEMO := data/demo
PARTS := data/pretrain
# Two processes of one thread are faster than one process of two.
PRETRAIN := OMP_NUM_THREADS=1 $(BIN)/torchrun --nproc_per_node 2 scripts/train.py
# The model in the package forecasts 64 steps at once, and longer horizons from its own forecasts.
TRAINED := $(shell test $(HORIZON) -lt 64 && echo $(HORIZON) || echo 64)
FLAGS := --config config/demo.yaml --inference.prediction_length $(HORIZON) --data.test_length $(HORIZON) \
	--training.prediction_length $(TRAINED)
ifeq ($(DATA),)
FLAGS += --inference.future_path $(DEMO)/dummy/dummy_future.parquet
else
FLAGS += --data.train $(DATA) --inference.data_path $(DATA) --training.learning_rate auto
endif

.PHONY: demo test test-oldest test-newest pretrain docs lint format clean

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev,fev]'
	touch $@

.venv/docs-installed: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[docs]'
	touch $@

demo: .venv/installed
ifeq ($(DATA),)
	$(BIN)/python scripts/generate_data.py $(FLAGS)
endif
	$(BIN)/python scripts/base_model.py $(FLAGS)
	$(BIN)/accelerate launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		--num_cpu_threads_per_process $(shell getconf _NPROCESSORS_ONLN) \
		scripts/train.py $(FLAGS)
	$(BIN)/python scripts/forecast.py $(FLAGS)
	$(BIN)/python scripts/evaluate.py $(FLAGS)
	@echo
	@echo "checkpoint:   $(DEMO)/models/trained"
	@echo "predictions:  $(DEMO)/predictions/predictions.parquet"
	@echo "picture:      $(DEMO)/predictions/forecasts.png"
	@echo "report:       $(DEMO)/reports/report.html"

# Each part goes on from the weights of the part before it, and is skipped if it is finished.
pretrain: .venv/installed
	test -d $(PARTS)/random || $(BIN)/python scripts/base_model.py --config config/pretrain.yaml
	test -f $(PARTS)/constant/training_info.json || $(PRETRAIN) --config config/pretrain.yaml
	test -f $(PARTS)/decayed/training_info.json || $(PRETRAIN) --config config/pretrain_decay.yaml
	test -f $(PARTS)/constant_2/training_info.json || $(PRETRAIN) --config config/pretrain.yaml --chronos.seed 2 \
		--base_model.output_path $(PARTS)/decayed --training.output_path $(PARTS)/constant_2 \
		--training.max_steps 10000 --training.trainer.warmup_steps 300
	test -f $(PARTS)/decayed_2/training_info.json || $(PRETRAIN) --config config/pretrain_decay.yaml --chronos.seed 3 \
		--base_model.output_path $(PARTS)/constant_2 --training.output_path $(PARTS)/decayed_2 \
		--training.max_steps 3500
	test -f $(PARTS)/constant_3/training_info.json || $(PRETRAIN) --config config/pretrain.yaml --chronos.seed 4 \
		--base_model.output_path $(PARTS)/decayed_2 --training.output_path $(PARTS)/constant_3 \
		--training.max_steps 6500 --training.trainer.warmup_steps 300
	test -f $(PARTS)/trained/training_info.json || $(PRETRAIN) --config config/pretrain_decay.yaml --chronos.seed 5 \
		--base_model.output_path $(PARTS)/constant_3 --training.output_path $(PARTS)/trained --training.max_steps 2000
	$(BIN)/python tools/publish_builtin.py chronos2-synth $(PARTS)/trained

test: lint
	$(BIN)/python -m pytest -m ""

.venv-oldest/installed: pyproject.toml requirements.lock tools/oldest_versions.py
	$(PYTHON) -m venv --clear .venv-oldest
	$(PYTHON) tools/oldest_versions.py | sed '$(if $(TORCH),s/^torch==.*/torch==$(TORCH)/)' > .venv-oldest/constraints.txt
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check -c .venv-oldest/constraints.txt -e '.[dev,fev]'
	touch $@

# An old library may use what a newer one has deprecated.
test-oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest -W ignore::DeprecationWarning

# Without fev, which admits no newer datasets.
test-newest:
	$(PYTHON) -m venv --upgrade-deps .venv-newest
	.venv-newest/bin/pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager \
		$(addprefix torch==,$(TORCH)) -e '.[dev]'
	.venv-newest/bin/python -m pytest

docs: .venv/docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: .venv/installed
	$(BIN)/black --check --quiet . || $(BIN)/black --check .
	$(BIN)/isort --check .
	$(BIN)/flake8
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/isort .
	$(BIN)/black .

clean:
	rm -rf .venv .venv-oldest .venv-newest build *.egg-info .mypy_cache .pytest_cache
