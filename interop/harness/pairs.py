"""Every ordered pair of Python, Java and Erlang exchanging messages on one queue."""

import itertools
import tempfile
from pathlib import Path

from . import clients
from .paths import WORK
from .programs import finish, start
from .results import Result

FOLDERS = ("python", "java-client", "erlang")
"""The clients that must be installed."""

SENDERS = {
    "Python": lambda *where: clients.python("send.py", *where),
    "Java": lambda *where: clients.java("java-client", "Files", "send", *where),
    "Erlang": lambda *where: clients.erlang("files", "send", *where),
}
RECEIVERS = {
    "Python": lambda *where: clients.python("receive.py", *where),
    "Java": lambda *where: clients.java("java-client", "Files", "receive", *where),
    "Erlang": lambda *where: clients.erlang("files", "receive_into", *where),
}

PAIRS = tuple(itertools.permutations(SENDERS, 2))

# A message's name travels in a header: the second one needs UTF-8 and an escape.
MESSAGES = {
    "text.txt": b"A line of plain text.\nAnd another one.\n",
    "Grüße: 漢字.txt": "Übergrößenträger 漢字 🐟".encode(),
    "every byte.bin": bytes(range(256)) * 16,
}


def run(host, port, prefix):
    """Yields (sender, receiver) and the result of their exchange."""
    for sender, receiver in PAIRS:
        yield (sender, receiver), exchange(sender, receiver, host, str(port), f"/queue/{prefix}.pairs")


def exchange(sender, receiver, host, port, queue):
    with tempfile.TemporaryDirectory(dir=WORK / "tmp") as folder:
        outbox, inbox = Path(folder, "outbox"), Path(folder, "inbox")
        outbox.mkdir()
        inbox.mkdir()
        for name, body in MESSAGES.items():
            (outbox / name).write_bytes(body)
        name = f"pair-{sender}-{receiver}"
        receiving = start(f"{name}-receiver", RECEIVERS[receiver](host, port, queue, inbox, str(len(MESSAGES))))
        sending = start(f"{name}-sender", SENDERS[sender](host, port, queue, *(outbox / name for name in MESSAGES)))
        ends = {"sender": finish(sending)[1], "receiver": finish(receiving)[1]}
        received = {file.name: file.read_bytes() for file in inbox.iterdir()}
    if any(ends.values()):
        return Result("FAIL", "; ".join(f"the {side}: {why}" for side, why in ends.items() if why))
    changed = [name for name in MESSAGES.keys() | received.keys() if MESSAGES.get(name) != received.get(name)]
    return Result("FAIL", f"missing or changed: {sorted(changed)}") if changed else Result("PASS")
