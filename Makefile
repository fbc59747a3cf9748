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

.PHONY: up
up: ## Start Consul, Redis, Kafka, Prometheus, two counters, analytics and the gateway on this machine
	@deploy/scripts/setup.sh services
	@deploy/local/mesh.sh up

.PHONY: down status logs
down: ## End what `make up` started
	@deploy/local/mesh.sh down
status: ## What of it runs, and where
	@deploy/local/mesh.sh status
logs: ## Follow its logs
	@deploy/local/mesh.sh logs

# `docker compose` or podman-compose; COMPOSE_ARGS for overrides: deploy/containers/README.md.
COMPOSE ?= docker compose
COMPOSE_ARGS ?=
.PHONY: images compose-up compose-down
images: ## Build the container images (deploy/Dockerfile)
	$(COMPOSE) -f deploy/compose.yaml $(COMPOSE_ARGS) build
compose-up: ## Start the mesh in containers (deploy/compose.yaml), and try it
	$(COMPOSE) -f deploy/compose.yaml $(COMPOSE_ARGS) up -d
	@deploy/containers/try.sh
compose-down: ## End the mesh in containers
	$(COMPOSE) -f deploy/compose.yaml $(COMPOSE_ARGS) down

.PHONY: test
test: setup lint deny machete codegen test-doc test-unit conformance ## Everything that CI does: install what is missing, all lints, all tests

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

# A stranger's check of the promise: ARGS="--seed 7 --rounds 10". Its short form is one of the tests.
.PHONY: consistency
consistency: setup ## Kill, freeze and cut off everything under load for minutes, and compare what was counted
	cargo build --release --workspace --bins --locked
	target/release/consistency $(ARGS)

.PHONY: conformance
conformance: setup ## The official protobuf conformance suite: JSON <-> protobuf, no failure expected
	transcode/conformance/run.sh

# Not a part of `make test`: it is random. EXAMPLES bounds the cases of an operation.
.PHONY: openapi-check
openapi-check: ## Fuzz the running mesh by schemathesis from its own OpenAPI document
	@deploy/scripts/setup.sh openapi
	cargo build --workspace --bins --locked
	deploy/openapi/check.sh

# A nightly compiler and cargo-fuzz (`cargo install cargo-fuzz`); SECONDS_EACH bounds a target.
SECONDS_EACH ?= 600
.PHONY: fuzz
fuzz: ## Arbitrary bytes for the readers of outside bytes, ten minutes each
	cd fuzz
	for target in $$(cargo +nightly fuzz list); do
	  mkdir -p target/found/"$$target"
	  cargo +nightly fuzz run "$$target" target/found/"$$target" corpus/"$$target" -- -max_total_time=$(SECONDS_EACH) -max_len=1024
	done

.PHONY: bench
bench: ## The gateway beside its peers, on a quiet machine: writes bench/RESULTS.md
	bench/run.py

.PHONY: clean
clean: ## Remove build output, tools and local data
	rm -rf target .tools .local data
