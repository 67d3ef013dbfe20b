# `make test` is what continuous integration runs. Everything else is a shorthand.

.PHONY: build run test soak bench microbench

build:
	cargo build --release --locked

run:
	cargo run --release --locked

# Formatting, lints, all tests, then unmodified clients of other languages; stops at the first that fails.
test:
	tests/run

# The same tests at length: those too slow for every day, and 100 times as many cases of the random ones.
soak:
	PROPTEST_CASES=$${PROPTEST_CASES:-25600} cargo test --profile ci --workspace --locked -- --include-ignored

# Millpond beside RabbitMQ, in turn, under 30 minutes; writes the README's table. `benches/compare/run --help` says more.
bench:
	benches/compare/run

# The parts by themselves: frames, routing, queues, the log.
microbench:
	cargo bench --workspace --locked
