"""A Millpond of our own: built, started on free ports with an empty data directory, stopped by its process id."""

import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading

from .paths import LOGS, REPOSITORY, WORK

START_LIMIT_S = 30
STOP_LIMIT_S = 30


class BrokerError(Exception):
    """The broker did not start, or did not stop cleanly."""


def build():
    """Builds the broker; returns the path of the program."""
    subprocess.run(["cargo", "build", "--profile", "ci", "--bin", "millpond"], cwd=REPOSITORY, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")
    return REPOSITORY / target / "ci/millpond"


class Broker:
    """One run of the broker. As a context manager it gives the STOMP address as (host, port)."""

    def __init__(self, program, name):
        self.program = program
        self.log = LOGS / f"broker-{name.replace(' ', '-')}.log"

    def __enter__(self):
        (WORK / "tmp").mkdir(parents=True, exist_ok=True)
        LOGS.mkdir(parents=True, exist_ok=True)
        self.data = tempfile.mkdtemp(dir=WORK / "tmp", prefix="data-")
        try:
            self.process = subprocess.Popen(
                [self.program, "serve", "--data-dir", self.data, "--stomp", "127.0.0.1:0", "--amqp", "off",
                 "--http", "127.0.0.1:0", "--web-stomp", "off", "--log-format", "json"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        except OSError as failure:
            shutil.rmtree(self.data, ignore_errors=True)
            raise BrokerError(f"the broker cannot be run: {failure}") from failure
        self.events = queue.Queue()
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        try:
            return self._address()
        except BrokerError:
            self._end()
            raise

    def _read_log(self):
        """Keeps the log and hands on what it says about listeners; None when the broker has ended."""
        with self.log.open("wb") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                try:
                    event = json.loads(line)
                    event |= event.get("fields", {})
                except (ValueError, TypeError, AttributeError):
                    continue  # not a line of the log: a panic's text, say
                if event.get("message") in ("listening", "ready"):
                    self.events.put(event)
        self.events.put(None)

    def _address(self):
        address = None
        while True:
            try:
                event = self.events.get(timeout=START_LIMIT_S)
            except queue.Empty:
                raise BrokerError(f"the broker was not ready after {START_LIMIT_S} s (see {self.log})") from None
            if event is None:
                raise BrokerError(f"the broker ended before it was ready (see {self.log})")
            if event["message"] == "listening" and event.get("listener") == "stomp":
                host, _, port = event["address"].rpartition(":")
                address = host, int(port)
            if event["message"] == "ready":
                if address is None:
                    raise BrokerError(f"the broker is ready but listens to no STOMP (see {self.log})")
                return address

    def __exit__(self, failure, *_):
        status = self._end()
        if status != 0 and failure is None:
            raise BrokerError(f"the broker ended with status {status} (see {self.log})")

    def _end(self):
        """Asks the broker to stop, as an operator would; returns its exit status."""
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        shutil.rmtree(self.data, ignore_errors=True)
        return self.process.returncode
