# `make` or `make help` lists what there is. Everything runs from this folder, in .venv, which the first call builds.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-fast data check check-configs train loss-curve serve gateway chat webui export tiny labeller \
        retriever bench-data bench-retrieval bench-train bench-gateway eval eval-general \
        screenshots report submission lint format clean

PYTHON ?= python3
SPC ?= hub
CONFIG ?= qwen3-1.7b/lora
RETRIEVER ?= small
ARGS ?=
PORT ?= $(or $(API_PORT),8000)

VENV := .venv/.ready
RUN := .venv/bin/python

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' Makefile

demo: $(VENV) ## see it all on a CPU: sample, training, API, three questions; a few minutes
	@$(RUN) -m inference.demo

test: $(VENV) ## run every test; on two cores 15 to 45 minutes, by the CPU
	@$(RUN) -m pytest -n 2 --dist loadfile

test-fast: $(VENV) ## run the tests that take seconds
	@$(RUN) -m pytest -m "not slow"

data: $(VENV) ## build data/ from SPC=hub (default), SPC=<folder with the CSV files> or SPC=sample
	@$(RUN) -m data_prep.build --spc "$(SPC)" $(ARGS)

check: $(VENV) ## check data/ for CONFIG=: form, marks, token lengths, leaks, and which tokens carry loss
	@$(RUN) -m data_prep.check --config $(if $(filter %.yaml %.yml,$(CONFIG)),$(CONFIG),llamafactory_configs/train/$(CONFIG).yaml) $(ARGS)

train: $(VENV) ## train CONFIG=qwen3-1.7b/lora (default); ARGS="learning_rate=5.0e-5" is passed on
	@$(RUN) -m llamafactory_configs.run train $(CONFIG) $(ARGS)

check-configs: $(VENV) ## check every YAML: parser, agreement, datasets, lengths, and what the GPUs here can do
	@$(RUN) -m llamafactory_configs.check $(ARGS)

loss-curve: $(VENV) ## picture of the loss of CONFIG= (or FOLDER=), and what is wrong with it, if anything
	@$(RUN) -m eval.loss_curve $(or $(FOLDER),saves/$(CONFIG))

serve: $(VENV) ## serve what CONFIG= trained at http://127.0.0.1:8000/v1; PORT=, API_KEY=
	@API_PORT=$(PORT) $(RUN) -m llamafactory_configs.run serve $(CONFIG) $(ARGS)

# Counts tokens, to keep within the model's length: what training left beside the adapter, or the model's own.
SERVE = llamafactory_configs/serve/$(CONFIG).yaml
WEIGHTS = $(if $(wildcard $(SERVE)),$(shell sed -n 's/^model_name_or_path: *//p' $(SERVE)),$(error There is no $(SERVE); name another CONFIG=))
TOKENIZER = $(if $(wildcard saves/$(CONFIG)/tokenizer.json),saves/$(CONFIG),$(WEIGHTS))
gateway: $(VENV) ## in front of `make serve`: persons as models, citations, a page, at http://127.0.0.1:8001
	@$(RUN) -m inference.gateway --backend http://127.0.0.1:$(PORT)/v1 --tokenizer "$(TOKENIZER)" $(ARGS)

chat: $(VENV) ## talk in the terminal to a persona that `make serve` serves; ARGS="--card card.txt"
	@$(RUN) -m inference.chat --backend http://127.0.0.1:$(PORT)/v1 --tokenizer "$(TOKENIZER)" $(ARGS)

webui: $(VENV) ## LLaMA-Factory's web page, with our datasets in it, at http://127.0.0.1:7860
	@$(RUN) -m llamafactory_configs.run webui

export: $(VENV) ## merge the adapter of CONFIG= into its model
	@$(RUN) -m llamafactory_configs.run export $(CONFIG) $(ARGS)

# Goes on where it was interrupted; `rm -r saves/tiny` starts over.
TINY_PARTS := tiny/pretrain tiny/pretrain_grounded tiny/pretrain_with_facts
tiny: $(VENV) ## rebuild models/persona-tiny from SPC=; some three hours on two cores
	@$(RUN) -m data_prep.build --spc "$(SPC)" --new-persona --retriever none --missed keep --sides one --formats sharegpt \
	  --out saves/tiny/conversations
	@$(RUN) -m data_prep.build --spc "$(SPC)" --only-grounded --formats sharegpt --out saves/tiny/grounded
	@$(RUN) -m data_prep.build --spc "$(SPC)" --new-persona --retriever random --k 3 --missed keep --sides one \
	  --formats sharegpt --out saves/tiny/cards
	@$(RUN) -m data_prep.build --spc "$(SPC)" --new-persona --sides one --formats sharegpt --out saves/tiny/with_facts
	@$(RUN) -m models.tiny init --data saves/tiny/conversations/spc_sharegpt_train.json --out saves/tiny/untrained
	@$(RUN) -m models.tiny drill saves/tiny/cards saves/tiny/with_facts
	@for part in $(TINY_PARTS); do \
	  test -f saves/$$part/train_results.json || $(RUN) -m llamafactory_configs.run train $$part $(ARGS) || exit; \
	done
	@$(RUN) -m models.tiny finish $(TINY_PARTS:%=saves/%)

labeller: $(VENV) ## retrain the grounding labeller on the labels that ship, from SPC= and ENCODER=; hours on two cores
	@$(RUN) -m data_prep.labellers.train --spc "$(SPC)" $(if $(ENCODER),--encoder "$(ENCODER)") $(ARGS)
	@$(RUN) -m data_prep.labellers.precomputed --spc "$(SPC)"

# `small` learns in a minute on two cores, `encoder` in some 40.
retriever: $(VENV) ## retrain RETRIEVER=small (default) or encoder from SPC= and ENCODER=, and measure it
	@$(RUN) -m data_prep.retrieval_examples --spc "$(SPC)"
	@$(RUN) -m retrieval.training.words --facts saves/retriever/facts.txt
	@$(RUN) -m retrieval.training.$(RETRIEVER) --examples saves/retriever/train.jsonl $(if $(ENCODER),--encoder "$(ENCODER)") $(ARGS)
	@$(RUN) -m eval.retrieval --gold saves/retriever/kept_back.gold.jsonl --retriever tfidf,$(RETRIEVER) \
	  --json saves/retriever/$(RETRIEVER)_kept_back.json

bench-retrieval: $(VENV) ## measure the speed of retrieval against the obvious ways, on SPC=
	@$(RUN) -m eval.bench_retrieval --spc "$(SPC)" --json reports/results/bench_retrieval.json $(ARGS)

bench-data: $(VENV) ## measure the speed and memory of `make data` against the obvious loop, on SPC=
	@$(RUN) -m eval.bench_data --spc "$(SPC)" --json reports/results/bench_data.json $(ARGS)

bench-train: $(VENV) ## measure how many replies a second training learns against LLaMA-Factory's stock way
	@$(RUN) -m eval.bench_train --json reports/results/bench_train.json $(ARGS)

bench-gateway: $(VENV) ## measure what the gateway costs before a stand-in for the model; five minutes
	@$(RUN) -m eval.bench_gateway --json reports/results/bench_gateway.json $(ARGS)

# Against the untouched model, by default that of the same folder.
BASE ?= $(patsubst %/,%,$(dir $(CONFIG)))/base
eval: $(VENV) ## compare what CONFIG= trained with BASE=, with and without retrieval, on SPC=; ARGS="--samples 100"
	@$(RUN) -m eval.compare $(filter-out $(CONFIG),$(BASE)) $(CONFIG) --spc "$(SPC)" $(ARGS)

eval-general: $(VENV) ## general benchmarks of what CONFIG= trained against BASE=qwen3-1.7b/base; ARGS="--limit 200"
	@$(RUN) -m eval.general $(BASE) $(CONFIG) --json reports/results/general.json $(ARGS)

report: $(VENV) ## the report over reports/results/*.json, in English and Chinese: Markdown, HTML and PDF (Chromium)
	@$(RUN) -m reports.build $(ARGS)

submission: $(VENV) ## pack report and code as saves/submission.zip, to hand in
	@$(RUN) -m reports.submission $(ARGS)

screenshots: $(VENV) ## pictures of the page while what CONFIG= trained answers, for the report; needs Chromium
	@$(RUN) -m eval.screenshots $(CONFIG) $(ARGS)

lint: $(VENV) ## check style
	@$(RUN) -m ruff check . && $(RUN) -m ruff format --check .

format: $(VENV) ## mend style
	@$(RUN) -m ruff check --fix . && $(RUN) -m ruff format .

clean: ## remove the environment and all that was generated, but not saves/ and data/
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis

# uv takes half a minute where pip takes minutes; pip's mirror setting is handed on, since uv does not read it.
# Without bytecode every start of LLaMA-Factory takes 20 s.
$(VENV): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), but Python 3.11 or newer is needed; name one, such as PYTHON=python3.12."; exit 2; }
	@echo "Building .venv (once; about 6 GB with PyTorch's CUDA libraries)"
	@$(PYTHON) -m venv --clear .venv
	@unset PYTHONDONTWRITEBYTECODE; \
	if uv=$$(command -v uv) || { $(RUN) -m pip install -q uv && uv=.venv/bin/uv; }; then \
	  mirror=$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(RUN) -m pip config get global.index-url 2>/dev/null)}}; \
	  "$$uv" pip install --python $(RUN) --compile-bytecode $${mirror:+--default-index "$$mirror"} -r requirements.txt; \
	else \
	  $(RUN) -m pip install --compile -r requirements.txt; \
	fi
	@touch $(VENV)
