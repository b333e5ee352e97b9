# Every target sets up .venv itself, and only when pyproject.toml or constraints.txt changed since.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.bench-ready
DOCS_READY := $(VENV)/.docs-ready
FEAST_VENV := .venv-feast-tests
FEAST_READY := $(FEAST_VENV)/.ready
RANGE ?=
STUDENT ?=

.DEFAULT_GOAL := help
# Each worker collects all tests: without compiled files it compiles them once more, which takes it seven seconds.
test test-slow test-long: export PYTHONDONTWRITEBYTECODE=
.PHONY: help run test test-slow test-long ui serve live live-drift live-fault docs bench bench-drift bench-inputs bench-ingest bench-bad-teacher bench-checkpoints bench-loading bench-serving bench-serving-load bench-serving-tables bench-item-index bench-upkeep bench-retrieval bench-retrieval-large bench-quality bench-training bench-gpu feast-tests clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": set PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (once, some minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(BENCH_READY): $(READY)
	@echo "setting up what the benchmarks compare with"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

$(DOCS_READY): $(READY)
	@echo "setting up what the docs are built with"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# A place of its own: what Feast's tests need is large, and its pytest plug-ins would run in this project's tests too.
$(FEAST_READY): pyproject.toml constraints.txt
	@test -x $(FEAST_VENV)/bin/python || $(PYTHON) -m venv $(FEAST_VENV)
	@echo "setting up $(FEAST_VENV) (once, some minutes)"
	@$(FEAST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(FEAST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group feast-tests
	@touch $@

run: $(READY) ## the main job: EXFM_PROJECT=simulated by default, RANGE=first...last for fewer slices, STUDENT=name for one
	@$(BIN)/exfm run $(if $(RANGE),--range '$(RANGE)') $(if $(STUDENT),--student '$(STUDENT)')

test: $(READY) ## lint, types and tests
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $${WORKERS:-2} --dist worksteal -m 'not slow'

test-slow: $(READY) ## the long scenarios; many of them wait for daemons, so four share two cores
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $${WORKERS:-4} --dist loadgroup --no-loadscope-reorder -m 'slow and not long'

test-long: $(READY) ## the same at more moments and of more cases, as before a release; EXFM_KILLS=60 for more
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $${WORKERS:-2} --dist loadgroup --no-loadscope-reorder -m long

ui: $(READY) ## Dagster with automation on, at http://127.0.0.1:3000
	@exec $(BIN)/exfm ui -h 127.0.0.1 -p $${PORT:-3000}

serve: $(READY) ## answer requests with the released students, at http://127.0.0.1:8080: PORT=8080 WORKERS=1
	@exec $(BIN)/exfm serve --port $${PORT:-8080} --workers $${WORKERS:-1}

live: $(READY) ## a simulated crowd that asks the served students, Dagster, and a page, until Ctrl-C: PORT=8080 UI_PORT=3000
	@exec $(BIN)/exfm live --port $${PORT:-8080} --ui-port $${UI_PORT:-3000}

live-drift: $(READY) ## the same; in five minutes what is popular turns over, or at once where a world lives already
	@exec $(BIN)/exfm live --drift --port $${PORT:-8080} --ui-port $${UI_PORT:-3000}

live-fault: $(READY) ## the same; in five minutes clicks are logged the wrong way round for eight
	@exec $(BIN)/exfm live --fault --port $${PORT:-8080} --ui-port $${UI_PORT:-3000}

docs: $(DOCS_READY) ## the pages and the API reference, into site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(BENCH_READY) ## where the main job's time goes
	@$(BIN)/python -m benchmarks.main_job

bench-retrieval: $(BENCH_READY) ## point-in-time joins against Feast's duckdb store, and polars and DuckDB by hand
	@$(BIN)/python -m benchmarks.retrieval

bench-retrieval-large: $(BENCH_READY) ## 20 million rows x 3 views to parquet under a memory limit
	@$(BIN)/python -m benchmarks.retrieval_large

bench-quality: $(BENCH_READY) ## methods against their controls over paired seeds: SEEDS=5, EXFM_PROJECT as in run
	@$(BIN)/python -m benchmarks.quality --seeds $${SEEDS:-5}

bench-training: $(BENCH_READY) ## training speed against FuxiCTR and the machine's limit, growth, memory
	@$(BIN)/python -m benchmarks.training

bench-drift: $(READY) ## false alarms on a stationary stream, and drift with and without upkeep
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.drift

bench-inputs: $(READY) ## what each kind of input gives where it carries signal, and where it does not
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.inputs

bench-ingest: $(READY) ## reading a log in, and each step of a slice, beside the same by hand: rows a second, memory
	@$(BIN)/python -m benchmarks.ingest
	@$(BIN)/python -m benchmarks.slice_steps

bench-bad-teacher: $(READY) ## which measure sees a bad teacher, and what it costs until it is taken back
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bad_teacher

bench-upkeep: $(READY) ## what a tick, a new slice and Dagster's database cost with many slices and students
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.upkeep

bench-checkpoints: $(READY) ## what a checkpoint costs to write and to read, as a whole state and as changes
	@$(BIN)/python -m benchmarks.checkpoints

bench-serving: $(BENCH_READY) ## what an answer costs: the network alone, a whole request, on the embedded store and on Redis
	@$(BIN)/python -m benchmarks.serving

bench-serving-load: $(BENCH_READY) ## a server under load while releases are swapped and workers are killed, every answer looked at: MINUTES=30
	@$(BIN)/python -m benchmarks.serving_load --minutes $${MINUTES:-30}

bench-serving-tables: $(READY) ## what tables in bfloat16 and int8 cost in NE, and what they give
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.serving_tables

bench-item-index: $(READY) ## the index that items are retrieved from, against brute force: recall, time, memory
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.item_index

bench-loading: $(READY) ## loading the online store, beside Feast's own engine and store
	@$(BIN)/python -W ignore -m benchmarks.loading

bench-gpu: $(READY) ## training and scoring against the machine's limits, on a GPU where there is one
	@$(BIN)/python -m benchmarks.gpu

feast-tests: $(FEAST_READY) ## Feast's own offline-store tests: FEAST=path of a checkout, ARGS=for pytest
	@$(FEAST_VENV)/bin/python -m feast_asof.feast_tests '$(FEAST)' $(ARGS)

clean: ## forget all generated state of the default place, and .venv
	rm -rf data $(VENV) $(FEAST_VENV)
