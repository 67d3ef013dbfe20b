"""Receives COUNT messages into files: receive.py HOST PORT DESTINATION DIRECTORY COUNT"""

import pathlib
import sys

from session import Session

host, port, destination, directory, count = sys.argv[1:]
session = Session(host, int(port))
session.subscribe(destination, ack="client-individual")
for _ in range(int(count)):
    message = session.message()
    name = pathlib.Path(message.headers["name"]).name
    pathlib.Path(directory, name).write_bytes(message.body)
    # Acknowledged only now: had the write failed, the message would still be in the queue.
    session.ack(message)
session.close()
