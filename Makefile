.DEFAULT_GOAL := help
.PHONY: help demo run check test cost torture memory renewals bench fuzz model doc fmt clean lint build-deps cargo

# Parameters of `make torture`.
SEED ?= $(shell date +%s)
EVENTS ?= 200000
# More than one: they share a spool in PostgreSQL.
RELAYS ?= 1
# This test has deadlines, so it runs alone.
DEADLINED = torture::nothing_is_lost
# This test takes ten minutes and is not part of `make test`.
MEMORY = memory::stays_within_its_bound
# This test takes four minutes and is not part of `make test`.
RENEWED = sinks::renewals
# Renewals of access tokens of each kind in `make renewals`.
RENEWALS ?= 450
# Seconds that the sinks of `make memory` are down.
MEMORY_SECONDS ?= 600
# Seconds per target of `make fuzz`.
FUZZ_SECONDS ?= 300

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build-deps ## build the relay and run the demo; needs no broker
	cargo run --locked -- demo

run: build-deps ## build the relay and run it with routes.yaml, or the file in REGARDS_RELAY_CONFIG, until Ctrl-C
	cargo run --locked -- run

check: lint ## format, lints, spelling, and the tests that need no broker; run it before each commit
	cargo test --locked --workspace --lib --bins
	cargo test --locked --test it offline::

test: lint ## all checks and tests, with a real RabbitMQ, Kafka and PostgreSQL
	scripts/deny.sh
	cargo test --locked --workspace --no-run
	RUST_TEST_THREADS=4 scripts/services.sh run -- sh -ec '\
		cargo test --locked --workspace -- --skip $(DEADLINED) --skip $(MEMORY) --skip $(RENEWED); \
		REGARDS_RELAY_TEST_SPOOL=postgres cargo test --locked --lib -- spool::tests journal::tests' # most tests wait for a broker
	scripts/services.sh run -- cargo test --locked --test it $(DEADLINED)
	TORTURE_RELAYS=2 TORTURE_VICTIMS=relay,webhook,postgres,network TORTURE_EVENTS=3000 \
		scripts/services.sh run -- cargo test --locked --test it $(DEADLINED)
	$(MAKE) --no-print-directory cost

cost: build-deps ## compare instructions and allocations per event with the recorded ones; part of `make test`
	@scripts/build-deps.sh valgrind
	cargo bench --locked --bench cost

torture: build-deps ## kill and restart relays and servers many times: SEED=7 EVENTS=1000000 RELAYS=3
	cargo test --locked --profile torture --test it --no-run
	TORTURE_SEED=$(SEED) TORTURE_EVENTS=$(EVENTS) TORTURE_ROUNDS=10 TORTURE_RELAYS=$(RELAYS) \
		scripts/services.sh run -- cargo test --locked --profile torture --test it $(DEADLINED) -- --nocapture

memory: build-deps ## peak memory with a full spool, bodies of 1 MiB and four sinks that are down, for MEMORY_SECONDS
	cargo test --locked --release --test it --no-run
	MEMORY_SECONDS=$(MEMORY_SECONDS) scripts/services.sh run -- cargo test --locked --release --test it $(MEMORY) -- --nocapture

renewals: build-deps ## renew access tokens of every kind RENEWALS times while events are delivered; four minutes
	cargo test --locked --test it --no-run
	RENEWALS=$(RENEWALS) scripts/services.sh run -- cargo test --locked --test it $(RENEWED) -- --nocapture

bench: build-deps ## compare the relay with a bare consumer and producer between real brokers; about an hour
	cargo bench --locked --bench brokers --no-run
	scripts/services.sh run -- cargo bench --locked --bench brokers

fuzz: build-deps ## fuzz messages, configurations, templates, expressions and schemas, FUZZ_SECONDS each; needs nightly Rust and cargo-fuzz
	for target in guard decoder configuration templates expressions schemas; do \
		cargo +nightly fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 || exit 1; \
	done

model: cargo ## explore all states of the lease and the fence of a spool in PostgreSQL, within bounds; half a minute
	cargo run --locked --release --quiet --manifest-path docs/model/Cargo.toml --target-dir target/model

doc: build-deps ## build the documentation of the code in target/doc
	cargo doc --locked --workspace --no-deps --document-private-items

fmt: cargo ## format the code
	cargo fmt --all

clean: ## remove the build output
	cargo clean

lint: build-deps
	@cargo fmt --version >/dev/null 2>&1 || { echo "rustfmt is missing: rustup component add rustfmt" >&2; exit 1; }
	@cargo clippy --version >/dev/null 2>&1 || { echo "clippy is missing: rustup component add clippy" >&2; exit 1; }
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --document-private-items --quiet
	@scripts/build-deps.sh shellcheck
	shellcheck scripts/*.sh scripts/services/*.sh .ci/run
	scripts/typos.sh

build-deps: cargo
	@scripts/build-deps.sh

cargo:
	@command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup, see rust-lang.org" >&2; exit 1; }
