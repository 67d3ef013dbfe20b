"""The command line: measure, print, write."""

import argparse
import os
import subprocess
import sys
import time

from . import plot, results, table
from .brokers import BrokerError, Millpond, RabbitMQ
from .install import InstallError, rabbitmq
from .measure import Generator, LoadError, store_ceiling, turn
from .paths import REPOSITORY, RESULTS
from .scenarios import RESTART, SCENARIOS


def arguments():
    """What was asked."""
    parser = argparse.ArgumentParser(
        prog="benches/compare/run",
        description="Measures Millpond beside RabbitMQ (STOMP plugin), in turn, and writes the README's table.",
    )
    parser.add_argument("--pairs", type=int, default=5, help="turns of each broker (default: 5)")
    parser.add_argument("--seconds", type=int, default=6, help="of each run (default: 6)")
    parser.add_argument("--quick", action="store_true", help="one pair of 3 s, printed but not kept")
    names = [scenario.name for scenario in SCENARIOS] + [RESTART.name]
    parser.add_argument("--only", action="append", choices=names, metavar="SCENARIO",
                        help=f"only this scenario, printed but not kept; may be repeated: {', '.join(names)}")
    parser.add_argument("--render", action="store_true", help="measure nothing: table and plot from the results kept")
    parser.add_argument("--programs", metavar="DIR", help="take millpond and the store's bench from here, do not build")
    parsed = parser.parse_args()
    if parsed.quick:
        parsed.pairs, parsed.seconds = 1, 3
    return parsed


def build(directory):
    """The programs `millpond` and the store's bench, built if no directory is given."""
    if directory is None:
        command = ["cargo", "build", "--release", "--locked", "--bin", "millpond", "--bench", "storage"]
        subprocess.run(command, cwd=REPOSITORY, check=True)
        directory = REPOSITORY / os.environ.get("CARGO_TARGET_DIR", "target") / "release"
    else:
        directory = os.path.abspath(directory)
    benches = [entry for entry in os.scandir(f"{directory}/deps")
               if entry.name.startswith("storage-") and "." not in entry.name]
    if not benches:
        raise LoadError(f"no storage bench in {directory}/deps")
    return f"{directory}/millpond", max(benches, key=lambda entry: entry.stat().st_mtime).path


def measure(asked):
    """All turns; returns the results."""
    millpond, store = build(asked.programs)
    version = rabbitmq()
    samples = {}
    generator = Generator(millpond, asked.seconds)
    brokers = Millpond(millpond), RabbitMQ()
    begin = time.monotonic()
    found = {
        "conditions": results.conditions(version, asked.seconds, asked.pairs),
        "store_per_second": store_ceiling(store, asked.seconds),
        "samples": samples,
    }
    for pair in range(1, asked.pairs + 1):
        for broker in brokers:
            elapsed = time.monotonic() - begin
            print(f"{broker.name}, turn {pair} of {asked.pairs} ({elapsed:.0f} s since the start)", flush=True)
            with broker:
                figures = turn(broker, generator, asked.only, lambda line: print(line, flush=True))
            for name, value in figures.items():
                of_figure = samples.setdefault(name, {other.name: [] for other in brokers})
                of_figure[broker.name].append(value)
    return found


def main():
    """Exit code 0 if every run of Millpond succeeded."""
    asked = arguments()
    try:
        found = results.load() if asked.render else measure(asked)
    except (BrokerError, InstallError, LoadError, OSError, subprocess.SubprocessError) as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    print(f"\n{table.terminal(found)}")
    if not asked.quick and not asked.only:
        if not asked.render:
            results.save(found)
        plot.write(found)
        if not table.write_readme(found):
            print("error: README.md has no place for the table", file=sys.stderr)
            return 1
        print(f"\nkept in {RESULTS.relative_to(REPOSITORY)}, drawn beside it, and written into README.md")
    failed = [name for name, of_figure in found["samples"].items() if None in of_figure["Millpond"]]
    if failed:
        print(f"error: runs of Millpond failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
