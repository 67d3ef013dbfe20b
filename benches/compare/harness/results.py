"""The figures as they are kept: every sample, under which conditions, and what the samples say together."""

import json
import os
import platform
import statistics
from datetime import UTC, datetime
from pathlib import Path

from .paths import RESULTS


def conditions(rabbitmq, seconds, pairs):
    """What a reader has to know to judge the figures."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "rabbitmq": rabbitmq,
        "seconds": seconds,
        "pairs": pairs,
    }


def _cpu():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def save(results):
    """Keeps the results in the repository."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def load():
    """The results kept."""
    return json.loads(RESULTS.read_text())


def median(samples):
    """The median of those that succeeded; None if none did."""
    values = [sample for sample in samples if sample is not None]
    return statistics.median(values) if values else None


def spread(samples):
    """Least and most of those that succeeded."""
    values = [sample for sample in samples if sample is not None]
    return (min(values), max(values)) if values else None
