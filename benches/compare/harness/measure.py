"""Runs the scenarios against a broker, and the disk and the store alone."""

import json
import os
import re
import statistics
import subprocess
import tempfile
import time

from .scenarios import FILL, RESTART, SCENARIOS
from .scenarios import SYNCS as SYNC_FIGURES

# The engine that Millpond uses unless it is told.
STORE = "sled"
SYNCS = 200
SYNC_BYTES = 4096


class LoadError(Exception):
    """A run of the generator failed; says why."""


class Generator:
    """`millpond bench` with a limit of time."""

    def __init__(self, program, seconds):
        self.program = program
        self.seconds = seconds
        # Beside producing, a run may have to drain what it published.
        self.limit = 60 + 10 * seconds

    def run(self, broker, flags, queue):
        """One run; returns its report."""
        pids = ",".join(str(pid) for pid in broker.pids())
        command = [self.program, "bench", "--json", "--quiet", "--address", broker.address(), "--queue", queue,
                   "--pid", pids, *flags.format(seconds=self.seconds).split()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=self.limit, check=False)
        except subprocess.TimeoutExpired:
            raise LoadError(f"not done after {self.limit} s") from None
        if done.returncode != 0:
            raise LoadError(done.stderr.strip() or f"exit code {done.returncode}")
        return json.loads(done.stdout)


def turn(broker, generator, only, say):
    """All scenarios on a broker that has just been started; returns the figures, None where a run failed."""
    figures = {}
    for scenario in SCENARIOS:
        if only and scenario.name not in only:
            continue
        try:
            report = generator.run(broker, scenario.flags, scenario.name)
        except LoadError as failure:
            say(f"  {scenario.name}: {failure}")
            figures |= {figure.name: None for figure in scenario.figures}
            continue
        for figure in scenario.figures:
            figures[figure.name] = value = lookup(report, figure)
            say(f"  {figure.title}: {'-' if value is None else f'{value:,.4g} {figure.unit}'}")
        if scenario.name == "lone":
            figures |= {figure.name: lookup(syncs_us(), figure) for figure in SYNC_FIGURES}
    if not only or RESTART.name in only:
        try:
            generator.run(broker, FILL, RESTART.name)
            figures[RESTART.name] = broker.restart_to_first_message(RESTART.name)
            say(f"  {RESTART.title}: {figures[RESTART.name]:.2f} s")
        except (LoadError, OSError) as failure:
            say(f"  {RESTART.name}: {failure}")
            figures[RESTART.name] = None
    return figures


def lookup(report, figure):
    """The number in a report that a figure is about."""
    for step in figure.path:
        report = (report or {}).get(step)
    return None if report is None else report * figure.scale


def syncs_us():
    """The median time of writing 4 KiB and syncing them, in microseconds: over what is there, and where the file grows."""
    block = os.urandom(SYNC_BYTES)
    found = {}
    with tempfile.NamedTemporaryFile(prefix="compare-sync-") as file:
        number = file.fileno()
        os.write(number, block * SYNCS)
        os.fsync(number)
        for way in ("in_place", "append"):
            os.lseek(number, 0, os.SEEK_SET if way == "in_place" else os.SEEK_END)
            times = []
            for _ in range(SYNCS):
                begin = time.perf_counter()
                os.write(number, block)
                os.fdatasync(number)
                times.append(time.perf_counter() - begin)
            found[way] = statistics.median(times) * 1e6
    return found


def store_ceiling(program, seconds):
    """Messages of 1 KiB a second that the store takes by itself, 1,000 at a time, each synced."""
    done = subprocess.run([program, str(seconds), STORE, "ceiling"], capture_output=True, text=True,
                          timeout=60 + 10 * seconds, check=False)
    found = re.search(r"^ceiling: (\d+) msg/s$", done.stdout, re.MULTILINE)
    if found is None:
        raise LoadError(f"the store alone: {done.stderr.strip()}")
    return int(found[1])
