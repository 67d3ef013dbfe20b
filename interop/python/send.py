"""Sends files, one message each: send.py HOST PORT DESTINATION FILE..."""

import pathlib
import sys

from session import Session

host, port, destination, *files = sys.argv[1:]
session = Session(host, int(port))
for file in map(pathlib.Path, files):
    session.send_confirmed(destination, file.read_bytes(), name=file.name)
session.close()
