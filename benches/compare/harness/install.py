"""RabbitMQ from the distribution's packages, without the service that they would start."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

SCRIPTS = Path("/usr/lib/rabbitmq/bin")
POLICY = Path("/usr/sbin/policy-rc.d")
STEP_LIMIT_S = 900


class InstallError(Exception):
    """RabbitMQ could not be installed; says why."""


@contextlib.contextmanager
def services_stay_off():
    """The package starts a broker on the default ports unless the machine forbids it."""
    if POLICY.exists():  # the machine has decided already
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def rabbitmq():
    """Makes sure that RabbitMQ is there; returns its version."""
    if not (SCRIPTS / "rabbitmq-server").exists():
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise InstallError("RabbitMQ is missing: install the package rabbitmq-server, or run this as root on Debian")
        print("installing rabbitmq-server ...", flush=True)
        with services_stay_off():
            _step(["apt-get", "-o", "DPkg::Lock::Timeout=300", "update", "-qq"])
            _step(["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "-qq", "--no-install-recommends",
                   "rabbitmq-server"])
    return _version()


def _step(command):
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=STEP_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise InstallError(f"`{' '.join(command)}` took longer than {STEP_LIMIT_S} s") from None
    if done.returncode != 0:
        raise InstallError(f"`{' '.join(command)}` failed:\n{done.stderr.strip()}")


def _version():
    homes = sorted(SCRIPTS.parent.glob("lib/rabbitmq_server-*"))
    if not homes:
        raise InstallError(f"there is no RabbitMQ beside {SCRIPTS}")
    return homes[-1].name.removeprefix("rabbitmq_server-")
