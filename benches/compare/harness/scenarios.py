"""What is measured. A scenario is a load and the figures that are taken from the generator's report."""

from dataclasses import dataclass, field

WAITING = 200_000
IDLE = 10_000


@dataclass(frozen=True)
class Figure:
    """One row of the table. `path` leads to the number in the report."""

    name: str
    title: str
    path: tuple[str, ...]
    unit: str
    more_is_better: bool = True
    scale: float = 1.0


@dataclass(frozen=True)
class Scenario:
    """`{seconds}` in the flags is the time of one run."""

    name: str
    flags: str
    figures: tuple[Figure, ...] = field(default=())


def rate(name, title, which="delivered"):
    return Figure(name, title, (which, "per_second"), "/s")


def cpu(name, title):
    return Figure(name, title, ("broker", "cpu", "per_million_delivered"), "CPU s per million", more_is_better=False)


def delay(name, title, which, percentile):
    return Figure(name, title, ("latency_us", which, percentile), "us", more_is_better=False)


# A broker that publishes faster than it delivers must not keep the others waiting.
FAST = "-z {seconds} --warm-up 1 --drain-time 20"
DURABLE = "-p -s 1024 -c 1000 --ack client --ack-every 100 --prefetch 2000"

# The idle connections come first, on a broker that has done nothing yet; the restart ends the turn (see measure.py).
SCENARIOS = (
    Scenario("idle", f"--idle-connections {IDLE}", (
        Figure("idle_memory", f"One of {IDLE:,} idle connections, memory", ("resident_per_connection",), "KiB", False, 1 / 1024),
    )),
    Scenario("transient_16", FAST, (
        rate("transient_16_rate", "16 B, transient, ack:auto"),
        cpu("transient_16_cpu", "16 B, transient: broker CPU"),
    )),
    Scenario("transient_1k", f"{FAST} -s 1024", (
        rate("transient_1k_rate", "1 KiB, transient, ack:auto"),
        cpu("transient_1k_cpu", "1 KiB, transient: broker CPU"),
    )),
    Scenario("fanout_10", f"{FAST} --fanout 10", (
        rate("fanout_10_rate", "Fan-out 1 to 10, 16 B: deliveries"),
        cpu("fanout_10_cpu", "Fan-out 1 to 10: broker CPU"),
    )),
    Scenario("queues_100", f"{FAST} --queues 100 -x 4 -y 100", (
        rate("queues_100_rate", "100 queues, 16 B, transient"),
        cpu("queues_100_cpu", "100 queues: broker CPU"),
    )),
    Scenario("durable", f"-z {{seconds}} --warm-up 1 {DURABLE}", (
        rate("durable_rate", "1 KiB, persistent, receipts, acks; consumers keep up"),
        cpu("durable_cpu", "1 KiB, persistent, keeping up: broker CPU"),
    )),
    Scenario("durable_later", f"-z {{seconds}} --drain-later {DURABLE}", (
        rate("durable_later_in", "1 KiB, persistent, receipts; publish first", "published"),
        rate("durable_later_out", "1 KiB, persistent, acks; drain later"),
        cpu("durable_later_cpu", "1 KiB, persistent, in and out: broker CPU"),
    )),
    Scenario("lone", "-z {seconds} -y 0 -p -s 1024 -c 1", (
        delay("lone_p50", "Lone publisher waits for each receipt, p50", "receipt", "p50"),
        delay("lone_p99", "Lone publisher waits for each receipt, p99", "receipt", "p99"),
    )),
    Scenario("latency_2k", f"{FAST} -r 2000", (
        delay("latency_2k_p50", "Delay at 2,000/s, p50", "delivery", "p50"),
        delay("latency_2k_p99", "Delay at 2,000/s, p99", "delivery", "p99"),
    )),
    Scenario("latency_20k", f"{FAST} -r 20000", (
        delay("latency_20k_p50", "Delay at 20,000/s, p50", "delivery", "p50"),
        delay("latency_20k_p99", "Delay at 20,000/s, p99", "delivery", "p99"),
    )),
)

# Filled to be killed; measured by starting again.
FILL = f"-C {WAITING} -y 0 -p -s 1024 -c 1000"
RESTART = Figure("restart", f"kill -9 with {WAITING:,} waiting: start to first message", (), "s", False)

# The disk by itself, in the same turns: 4 KiB written and synced, where it was written before and where the file grows.
SYNCS = (
    Figure("sync_in_place", "One sync of the disk, in place", ("in_place",), "us", False),
    Figure("sync_append", "One sync of the disk, growing file", ("append",), "us", False),
)

FIGURES = tuple(figure for scenario in SCENARIOS for figure in scenario.figures) + (RESTART,)
