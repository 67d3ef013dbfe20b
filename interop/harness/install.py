"""Brings what a client needs onto the machine: Debian packages, and a step of the client's own package manager.

Whatever is there already is left alone, and a failed download is tried once more.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .paths import LOGS, WORK

STEP_LIMIT_S = 600
POLICY = Path("/usr/sbin/policy-rc.d")


class InstallError(Exception):
    """A client could not be installed; says why."""


@dataclass(frozen=True)
class Package:
    """A Debian package, and a command that succeeds when it, or something as good, is there."""

    name: str
    probe: tuple[str, ...]

    def present(self):
        if len(self.probe) == 1:
            return shutil.which(self.probe[0]) is not None
        try:
            return subprocess.run(self.probe, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            return False


@contextlib.contextmanager
def services_stay_off():
    """Packages that start a service when they are installed must not: this machine needs the programs only."""
    if POLICY.exists():  # the machine has decided already
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def debian_packages(packages):
    """Installs those that are missing, all at once."""
    missing = sorted({package.name for package in packages if not package.present()})
    if not missing:
        return
    with services_stay_off():
        step("apt-update", ["apt-get", "-o", "DPkg::Lock::Timeout=300", "update", "-qq"])
        step(
            "apt-install",
            ["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "-qq", "--no-install-recommends", *missing],
            env={"DEBIAN_FRONTEND": "noninteractive"},
        )


def step(name, command, cwd=WORK, env=None):
    """Runs one command of a package manager; what it prints goes to a log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"install-{name}.log"
    for _ in range(2):
        with log.open("wb") as output:
            try:
                done = subprocess.run(
                    command, cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
                    stdout=output, stderr=subprocess.STDOUT, timeout=STEP_LIMIT_S, check=False,
                )
            except (subprocess.TimeoutExpired, FileNotFoundError) as failure:
                output.write(f"{failure}\n".encode())
                continue
        if done.returncode == 0:
            return
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise InstallError(f"`{' '.join(map(str, command))}` failed: {' '.join(last)} (see {log})")


def up_to_date(target, source, action):
    """Runs `action`, which makes the folder `target`, unless it did so before from the same file or folder `source`."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(source.parent)).encode() + b"\0" + file.read_bytes())
    # Inside the folder, so that deleting the one deletes the other.
    stamp = target / ".made-from"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    shutil.rmtree(target, ignore_errors=True)
    action()
    stamp.write_text(digest.hexdigest())
