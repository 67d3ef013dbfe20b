# `make test` is what continuous integration runs. Everything else is a shorthand.

.PHONY: build run test soak bench microbench

build:
	cargo build --release --locked

run:
	cargo run --release --locked

# Formatting, lints, all tests, then unmodified clients of other languages; stops at the first that fails.
test:
	tests/run

# The long checks, which take hours: power cuts (as root, with a loop device), damage, full disks, kill -9, churn, deep
# backlogs, many connections and queues, fuzzing, and the tests at length. One of them: make soak CHECKS=kills; how much
# of each: tests/soak/settings.rs.
soak:
	cargo test --release --locked --test soak -- --full $(CHECKS)

# Millpond beside RabbitMQ, in turn, under 30 minutes; writes the README's table. `benches/compare/run --help` says more.
bench:
	benches/compare/run

# The parts by themselves: frames, routing, queues, the log.
microbench:
	cargo bench --workspace --locked
