"""Runs the programs of the clients, with an end to their time."""

import os
import signal
import subprocess

from .paths import INTEROP, LOGS

PROGRAM_LIMIT_S = 180


def start(name, command):
    """Starts a program. What it prints can be read from `stdout`; its standard error goes to a log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{name.replace(' ', '-')}.log").open("wb") as log:
        return subprocess.Popen(
            [str(part) for part in command], cwd=INTEROP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            # Header values in the checks are UTF-8, whatever the machine's locale.
            env={**os.environ, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
            start_new_session=True,
        )


def finish(process):
    """Waits for a program; returns what it printed and why it failed, if it did."""
    try:
        printed, _ = process.communicate(timeout=PROGRAM_LIMIT_S)
    except subprocess.TimeoutExpired:
        # The program leads a session of its own, so this ends it with its children and nobody else.
        os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
        return printed.decode(errors="replace"), f"it took more than {PROGRAM_LIMIT_S} s"
    failure = f"it ended with status {process.returncode}" if process.returncode else None
    return printed.decode(errors="replace"), failure
