# make install   a virtual environment in .venv with everything that tests need, pinned (skipped
#                when up to date); make demo installs what pictures need alone
# make demo      from raw pictures to a trained model and its page of results
# make test      what has to pass: lint, types, tests; as root on Debian it installs the browser and
#                the reader of scanned pages that some tests need, which are skipped without them
# make docs      the pages of docs/reference, written from the code
# make models    published models that ship inside packages, into models/published
#
# PYTHON=python3.12 make install     another interpreter
# TORCH_INDEX=URL make install       torch from another index, such as PyTorch's own of CPU builds

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
BASE = $(VENV)/.installed
ALL = $(VENV)/.installed-all
TORCH_INDEX ?=
PROGRAMS = chromium tesseract-ocr
# Two test processes on two cores: one thread each. What a file of tests trains, one of them trains.
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: install demo test lint docs models programs clean

install: $(ALL)

$(BASE): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0 \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $(BASE)

$(ALL): $(BASE)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[agents,dev,credentials,data,diffusers,faster-whisper,hf,knowledge,llamacpp,lm,mlflow,molecules,music,objects,onnx,postgres,privacy,published,ray,records,serve,sound,text,traces]'
	touch $(ALL)

demo: $(BASE)
	PATH="$(abspath $(BIN)):$$PATH" sh scripts/demo.sh

test: lint programs
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check src tests benchmarks scripts
	$(BIN)/ruff format --check src tests benchmarks scripts
	$(BIN)/mypy

programs:
	@{ command -v chromium && command -v tesseract; } > /dev/null || \
		{ test "$$(id -u)" = 0 && command -v apt-get > /dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(PROGRAMS) > /dev/null; } || \
		echo "no $(PROGRAMS) here: tests that need them are skipped"

docs: install
	$(BIN)/python scripts/docs.py

models: install
	$(BIN)/python -m morphogen.interop.wheels models/published

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache
