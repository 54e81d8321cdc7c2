.DEFAULT_GOAL := help
.PHONY: help demo run check test cost torture memory bench fuzz doc fmt clean lint build-deps cargo

# What `make torture` is made of.
SEED ?= $(shell date +%s)
EVENTS ?= 200000
# What it promises has a deadline: it has the machine to itself.
DEADLINED = torture::nothing_is_lost
# Ten minutes of it are no part of `make test`.
MEMORY = memory::stays_within_its_bound
# How long the sinks of `make memory` are dead.
MEMORY_SECONDS ?= 600
# How long each target of `make fuzz` runs.
FUZZ_SECONDS ?= 300

help: ## lists these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build-deps ## builds the relay and shows it at work, with nothing installed but Rust
	cargo run --locked -- demo

run: build-deps ## builds the relay and runs it with routes.yaml, or with what REGARDS_RELAY_CONFIG names, until Ctrl-C
	cargo run --locked -- run

check: lint ## format, lints, spelling and the tests that need no broker: before each commit
	cargo test --locked --lib --bins
	cargo test --locked --test it offline::

test: lint ## everything, against a real RabbitMQ and a real Kafka
	scripts/deny.sh
	cargo test --locked --no-run
	RUST_TEST_THREADS=4 scripts/services.sh run -- cargo test --locked -- --skip $(DEADLINED) --skip $(MEMORY) # most tests wait for a broker
	scripts/services.sh run -- cargo test --locked --test it $(DEADLINED)
	$(MAKE) --no-print-directory cost

cost: build-deps ## instructions and allocations of one event, beside those that are known: a part of `make test`
	@scripts/build-deps.sh valgrind
	cargo bench --locked --bench cost

torture: build-deps ## fifty kills, forty restarts of brokers, all else that fails, at once: SEED=7 EVENTS=1000000
	cargo test --locked --profile torture --test it --no-run
	TORTURE_SEED=$(SEED) TORTURE_EVENTS=$(EVENTS) TORTURE_ROUNDS=10 \
		scripts/services.sh run -- cargo test --locked --profile torture --test it $(DEADLINED) -- --nocapture

memory: build-deps ## what the relay takes with everything full, bodies of 1 MiB and four dead sinks, for MEMORY_SECONDS
	cargo test --locked --release --test it --no-run
	MEMORY_SECONDS=$(MEMORY_SECONDS) scripts/services.sh run -- cargo test --locked --release --test it $(MEMORY) -- --nocapture

bench: build-deps ## what one event costs between real brokers, beside a bare consumer and producer
	cargo bench --locked --bench brokers --no-run
	scripts/services.sh run -- cargo bench --locked --bench brokers

fuzz: build-deps ## what anybody could send or write, for FUZZ_SECONDS each: needs a nightly Rust and cargo-fuzz
	for target in guard decoder configuration templates expressions; do \
		cargo +nightly fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 || exit 1; \
	done

doc: build-deps ## the documentation of the code, in target/doc
	cargo doc --locked --no-deps --document-private-items

fmt: cargo ## formats the code
	cargo fmt

clean: ## removes what was built
	cargo clean

lint: build-deps
	@cargo fmt --version >/dev/null 2>&1 || { echo "rustfmt is missing: rustup component add rustfmt" >&2; exit 1; }
	@cargo clippy --version >/dev/null 2>&1 || { echo "clippy is missing: rustup component add clippy" >&2; exit 1; }
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --no-deps --document-private-items --quiet
	@scripts/build-deps.sh shellcheck
	shellcheck scripts/*.sh scripts/services/*.sh .ci/run
	scripts/typos.sh

build-deps: cargo
	@scripts/build-deps.sh

cargo:
	@command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup, see rust-lang.org" >&2; exit 1; }
