"""The two brokers, each started on ports and in a directory of its own, and stopped by the process ids that it has."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from .install import SCRIPTS
from .stomp import first_message, is_ready

START_LIMIT_S = 120
STOP_LIMIT_S = 60


class BrokerError(Exception):
    """A broker did not do what it should; says what."""


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """What the two have in common. As a context manager it is running, over an empty directory."""

    name = None

    def __enter__(self):
        self.directory = Path(tempfile.mkdtemp(prefix=f"compare-{self.name.lower()}-"))
        self.port = free_port()
        self.process = None
        try:
            self.prepare()
            self.start()
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                pass
        self.kill()
        self.clean_up()
        shutil.rmtree(self.directory, ignore_errors=True)

    def prepare(self):
        """Writes what the broker needs before its first start."""

    def clean_up(self):
        """Ends what the broker leaves running."""

    def spawn(self, command, environment):
        """Starts the broker in a session of its own, by which its processes are known."""
        log = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(command, env=environment, cwd=self.directory, stdin=subprocess.DEVNULL,
                                        stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        log.close()

    def address(self):
        """HOST:PORT of STOMP."""
        return f"127.0.0.1:{self.port}"

    def pids(self):
        """All processes of the broker."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue  # it has ended meanwhile
            if int(fields[3]) == self.process.pid and fields[0] != "Z":
                found.append(int(entry.name))
        return found

    def wait_until_ready(self):
        """Returns when a client can log in."""
        deadline = time.monotonic() + START_LIMIT_S
        while not is_ready(self.port):
            if self.process.poll() is not None:
                raise BrokerError(f"{self.name} ended at its start:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise BrokerError(f"{self.name} was not ready after {START_LIMIT_S} s:\n{self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self):
        """The last of what it said."""
        return (self.directory / "log").read_text(errors="replace")[-2000:]

    def kill(self):
        """As a power failure of the process: kill -9 to all of it."""
        if self.process is None:
            return
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def restart_to_first_message(self, queue):
        """Kills it, starts it again, and returns the seconds from the start to a message of the queue."""
        self.kill()
        begin = time.monotonic()
        self.start()
        first_message(self.port, queue, START_LIMIT_S)
        return time.monotonic() - begin


class Millpond(Broker):
    """Millpond with its defaults."""

    name = "Millpond"

    def __init__(self, program):
        self.program = program

    def start(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLPOND_")}
        self.spawn([self.program, "serve", "--data-dir", self.directory / "data", "--stomp", self.address(),
                    "--http", "off", "--amqp", "off", "--web-stomp", "off"], environment)


class RabbitMQ(Broker):
    """RabbitMQ with its STOMP plugin and defaults, apart from where it listens and keeps its data."""

    name = "RabbitMQ"

    def prepare(self):
        directory = self.directory
        (directory / "enabled_plugins").write_text("[rabbitmq_stomp].\n")
        (directory / "empty.conf").write_text("")
        (directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{free_port()}\n"
            f"stomp.listeners.tcp.1 = {self.address()}\n"
        )
        self.environment = {
            "PATH": f"{SCRIPTS}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_NODENAME": f"compare-{os.getpid()}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "empty.conf"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "logs"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
        }

    def start(self):
        self.spawn([SCRIPTS / "rabbitmq-server"], self.environment)

    def clean_up(self):
        # The port mapper outlives the node; it is ours alone, on a port of its own.
        epmd = shutil.which("epmd")
        if epmd:
            subprocess.run([epmd, "-kill"], env=self.environment, capture_output=True, check=False)
