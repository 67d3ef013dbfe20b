"""The little STOMP that starting a broker takes."""

import socket
import time

CONNECT = b"CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\nheart-beat:0,0\n\n\0"
ATTEMPT_S = 0.005


def _log_in(port, patience):
    """A logged-in socket, or None if nobody listens yet."""
    try:
        client = socket.create_connection(("127.0.0.1", port), timeout=patience)
        client.sendall(CONNECT)
        if client.recv(4096).startswith(b"CONNECTED"):
            return client
        client.close()
    except OSError:
        pass
    return None


def is_ready(port):
    """Whether a client can log in."""
    client = _log_in(port, 5)
    if client is None:
        return False
    client.close()
    return True


def first_message(port, queue, limit_s):
    """Logs in as soon as possible, subscribes, and returns when the first message begins to arrive."""
    deadline = time.monotonic() + limit_s
    while (client := _log_in(port, limit_s)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody listens after {limit_s} s")
        time.sleep(ATTEMPT_S)
    with client:
        client.sendall(f"SUBSCRIBE\nid:0\ndestination:/queue/{queue}\nack:client\nprefetch-count:10\n\n\0".encode())
        received = b""
        while not received.lstrip(b"\n").startswith(b"MESSAGE\n"):
            received += client.recv(65536)
            if not received or received.lstrip(b"\n").startswith(b"ERROR"):
                raise ConnectionError(f"no message of {queue}: {received[:300]!r}")
