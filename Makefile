# One habit a target; each sets up what it needs. `make help` lists them.

SHELL := /usr/bin/env bash
.DEFAULT_GOAL := help

# Builds live outside the clone, so that clones share them.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/streamgauge/target

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: page clickhouse ## Build everything and run it with the example data on http://127.0.0.1:8080
	@scripts/need cargo
	cargo build --release --locked -p streamgauge-api
	@scripts/run

.PHONY: test
test: browser psql python check clickhouse ## Check, then run all tests: unit, oracle, end to end, page, browser
	cargo test --workspace --locked
	cd dashboard && npm test

.PHONY: check
check: page ## Check formatting, lints, docs and types, without running tests
	@scripts/need cargo
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	@scripts/check-files

.PHONY: bench
bench: page clickhouse ## Measure the program; ARGS="…" goes to the benchmark
	@scripts/need cargo
	cargo build --release --locked -p streamgauge-api -p streamgauge-bench
	"$$CARGO_TARGET_DIR/release/streamgauge-bench" $(ARGS)

# A schedule that failed is replayed with its SEED and KILLS.
SEED ?= random
KILLS ?= 100

.PHONY: chaos
chaos: page clickhouse ## Kill the program and ClickHouse under load, 100 times, and compare; SEED=… KILLS=… replays
	@scripts/need cargo
	CHAOS_SEED=$(SEED) CHAOS_KILLS=$(KILLS) cargo test --workspace --locked --test chaos -- --nocapture what_was

.PHONY: clean
clean: ## Remove what was built; ./data and the fetched ClickHouse stay
	rm -rf dashboard/dist dashboard/node_modules dashboard/test-results
	@scripts/need cargo
	cargo clean

# The web page, in dashboard/dist; the program is built with it inside.
.PHONY: page
page:
	@scripts/build-page

# ClickHouse as a library, in the cache.
.PHONY: clickhouse
clickhouse:
	@scripts/fetch-clickhouse

# Chromium for the browser test; looked for first, so that a missing one is not found out after all other tests.
.PHONY: browser
browser:
	@scripts/ensure-browser >/dev/null

# psql for the tests of the PostgreSQL protocol; looked for first as well.
.PHONY: psql
psql:
	@scripts/ensure-psql >/dev/null

# Clients of Python for the tests of that protocol and of Flight SQL, in the cache.
.PHONY: python
python:
	@scripts/ensure-python-clients >/dev/null
