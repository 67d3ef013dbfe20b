# `make test` is what continuous integration runs. Everything else is a shorthand.

.PHONY: build run test soak bench

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

bench:
	cargo bench --workspace --locked
