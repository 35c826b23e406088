# One door to everything. `make` alone says what there is.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= python3
BIN := .venv/bin
TOOLS := build/tools
CARGO_DENY := 0.20.2
CARGO_FUZZ := 0.13.2
FUZZ_SECONDS ?= 20
CRATES := --workspace --exclude puzzlefs-python
NO_STD := x86_64-unknown-none
OTHER := aarch64-unknown-linux-gnu
OTHER_CC := aarch64-linux-gnu-gcc
RUST_SOURCES := $(shell find rust -path rust/fuzz -prune -o \( -name '*.rs' -o -name Cargo.toml \) -print) Cargo.toml rust-toolchain.toml pyproject.toml
FUZZER = build/fuzz/target/$(shell rustc -vV | sed -n 's/^host: //p')/release
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
export NO_MKDOCS_2_WARNING := 1

##@ Everyday
.PHONY: help setup demo test check
help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {print "\n" substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/extension.stamp  ## Install what building needs, then PuzzleFS itself into .venv

demo: setup  ## Build, verify, mount and extract a Debian root filesystem (as root); compare every byte
	$(BIN)/python -m tools.demo

test: setup check test-rust test-python  ## Run every check and every test, from a fresh checkout too
	@awk '/^test result:/ {p += $$4; f += $$6; i += $$8} END {print "Rust:   " p " passed, " f " failed, " i " ignored"}' build/cargo-test.log
	@echo "Python: $$(tail -n 1 build/pytest.log | tr -d '=' | sed 's/^ *//; s/ *$$//')"
	@tail -n 1 build/pytest.log

check: check-python check-rust check-docs  ## Formatting, lints, types, licences, no_std, documentation

##@ Parts
.PHONY: test-rust test-python check-python check-rust check-docs bench bench-quick bench-packs fuzz docs lock
test-rust:  ## Run the tests of the Rust crates
	@mkdir -p build
	cargo test --quiet $(CRATES) 2>&1 | tee build/cargo-test.log

test-python: setup  ## Run the tests of the Python package on both backends
	@mkdir -p build
	$(BIN)/pytest 2>&1 | tee build/pytest.log

check-python: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --concise puzzlefs._rust

check-rust: setup $(TOOLS)/bin/cargo-deny
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(TOOLS)/bin/cargo-deny --log-level error check --hide-inclusion-graph licenses bans sources
	@if [ -d "$$(rustc --print target-libdir --target $(NO_STD))" ]; then set -x; \
	cargo check --quiet -p puzzlefs-core --no-default-features --target $(NO_STD); \
	else echo "skipped: the no_std check, because target $(NO_STD) is not installed (rustup target add $(NO_STD))"; fi
	@if [ -d "$$(rustc --print target-libdir --target $(OTHER))" ] && command -v $(OTHER_CC) > /dev/null; then set -x; \
	cargo check --quiet $(CRATES) --target $(OTHER); \
	else echo "skipped: the check for $(OTHER), because it takes rustup target add $(OTHER) and $(OTHER_CC)"; fi

check-docs: docs

docs: setup  ## Build the documentation into site/ and the manual pages into build/man/
	$(BIN)/mkdocs --quiet build --strict
	$(BIN)/python -m tools.man_pages build/man

bench: setup  ## Measure everything, as root, beside PUZZLEFS_ORIGINAL too (BENCH=--help: parts); write docs/benchmarks.*
	$(BIN)/python -m benches $(BENCH)

bench-quick: setup  ## Measure a small tree beside few peers, as root, in under two minutes; print it
	$(BIN)/python -m benches --quick

bench-packs: setup  ## Measure packs on a Debian system in ten states, as root (PACKS=--help: parts); write docs/packs.*
	$(BIN)/python -m benches.packs $(PACKS)

fuzz:  ## Feed what reads hostile bytes arbitrary ones, FUZZ_SECONDS (20) for each of three targets
	@if cargo +nightly --version > /dev/null 2>&1; then $(MAKE) --no-print-directory fuzz-run; \
	else echo "skipped: fuzzing needs a nightly compiler (rustup toolchain install nightly)"; fi

fuzz-run: $(TOOLS)/bin/cargo-fuzz
	cd rust/fuzz && cargo +nightly fmt --check
	PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" cargo +nightly fuzz build --fuzz-dir rust/fuzz --target-dir build/fuzz/target
	for target in metadata frame round_trip; do \
	mkdir -p build/fuzz/$$target && $(FUZZER)/$$target -max_total_time=$(FUZZ_SECONDS) -timeout=10 -verbosity=0 \
	-print_final_stats=1 -artifact_prefix=build/fuzz/ build/fuzz/$$target rust/fuzz/corpus/$$target || exit; done

lock: .venv/python.stamp  ## Bring requirements/*.txt up to date with requirements/*.in
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv -q pip compile --universal --python-version 3.11 --generate-hashes --upgrade \
	--custom-compile-command "make lock" requirements/dev.in -o requirements/dev.txt

##@ Packages
.PHONY: wheel wheel-pure clean
wheel: setup  ## Build the compiled wheel (CPython 3.11 and later) into dist/
	$(BIN)/maturin build --quiet --release --out dist

wheel-pure: .venv/python.stamp  ## Build the wheel without Rust into dist/
	$(BIN)/python tools/pure_wheel.py dist

clean:  ## Remove everything that was built, .venv included
	rm -rf .venv build dist site target .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	rm -f python/puzzlefs/_rust*.so
	find python tests tools benches -name __pycache__ -prune -exec rm -rf {} +

# Unoptimised: it runs for a second, and is built on every new machine.
$(TOOLS)/bin/cargo-deny:
	cargo install --quiet --locked --debug --no-default-features --root $(TOOLS) cargo-deny@$(CARGO_DENY)

$(TOOLS)/bin/cargo-fuzz:
	cargo install --quiet --locked --debug --root $(TOOLS) cargo-fuzz@$(CARGO_FUZZ)

.venv/python.stamp: requirements/dev.txt tools/bootstrap.sh
	PYTHON=$(PYTHON) sh tools/bootstrap.sh python
	@touch $@

.venv/extension.stamp: $(RUST_SOURCES) .venv/python.stamp
	@sh tools/bootstrap.sh rust
	PIP_QUIET=1 $(BIN)/maturin develop --quiet --release
	@touch $@
