# `make` lists what there is. Everything that CI does is `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.NOTPARALLEL:
export PATH := $(CURDIR)/.tools/bin:$(CURDIR)/.tools/venv/bin:$(PATH)
export CARGO_TERM_COLOR ?= auto

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Start the whole mesh in one process on 127.0.0.1:8080
	cargo run --release

.PHONY: test
test: setup lint deny machete codegen test-doc test-unit ## Everything that CI does: install what is missing, all lints, all tests

.PHONY: setup
setup: ## Install what the tests need and this machine lacks
	@deploy/scripts/setup.sh

.PHONY: lint
lint: fmt clippy doc ## Formatting, clippy and rustdoc, warnings refused

.PHONY: fmt
fmt:
	cargo fmt --all --check

.PHONY: clippy
clippy:
	cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: doc
doc: ## The documentation of every crate, without a warning
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet

.PHONY: deny
deny: setup ## Licences, sources, and who may depend on what
	cargo deny --log-level error --locked check bans licenses sources

.PHONY: advisories
advisories: setup ## Known vulnerabilities in dependencies (fetches the advisory database)
	cargo deny --log-level error --locked check advisories

.PHONY: machete
machete: setup ## Dependencies that nothing uses
	cargo machete

.PHONY: codegen
codegen: ## Is the generated code what the .proto files give?
	cargo run --quiet --locked -p proto-codegen -- --check

.PHONY: test-doc
test-doc: ## The examples in the documentation
	cargo test --workspace --doc --locked --quiet

.PHONY: test-unit
test-unit: setup ## Unit, property and black-box tests, on servers of their own on free ports
	cargo nextest run --workspace --locked --no-fail-fast

.PHONY: bench
bench: ## The gateway beside its peers, on a quiet machine: writes bench/RESULTS.md
	bench/run.py

.PHONY: clean
clean: ## Remove build output, tools and local data
	rm -rf target .tools data
