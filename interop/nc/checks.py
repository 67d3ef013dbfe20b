"""The interop checks as typed by a person into telnet or nc: checks.py HOST PORT PREFIX telnet|nc"""

import subprocess
import sys

from terminal import Terminal

HOST, PORT, PREFIX, TOOL = sys.argv[1:]
PACKAGES = {"telnet": "inetutils-telnet", "nc": "netcat-openbsd"}


class NotApplicable(Exception):
    """A person at a keyboard cannot do what the check asks for."""


def dial():
    return Terminal([TOOL, HOST, PORT])


def connect(*headers):
    terminal = dial()
    terminal.frame("CONNECT", "accept-version:1.2", "host:/", "login:guest", "passcode:guest", *headers)
    terminal.expect(r"\nversion:1\.2\n", "CONNECTED")
    return terminal


def queue(check):
    return f"destination:/queue/{PREFIX}.{check}"


def receipt_of(terminal, id):
    terminal.expect(rf"RECEIPT\n(?:.+\n)*?receipt-id:{id}\n", f"the receipt {id}")


def message(terminal, body):
    """The next MESSAGE on the screen must have this body; returns its headers. Typed text is never a MESSAGE."""
    shown = terminal.expect(r"MESSAGE\n((?:.+\n)+)\n([^\0]*)\0", "a message")
    if shown[2] != body:
        raise AssertionError(f"expected the message {body!r}, got {shown[2]!r}")
    return dict(line.split(":", 1) for line in shown[1].splitlines())


def close(terminal):
    terminal.frame("DISCONNECT", "receipt:bye")
    receipt_of(terminal, "bye")
    terminal.hang_up()


def send_receive():
    # The least that can be typed: no version, no login. That is STOMP 1.0 as the default user.
    terminal = dial()
    terminal.frame("CONNECT")
    terminal.expect(r"CONNECTED\n", "CONNECTED")
    terminal.frame("SUBSCRIBE", queue("send_receive"))
    terminal.frame("SEND", queue("send_receive"), "kind:greeting", body="hello")
    headers = message(terminal, "hello")
    if headers.get("kind") != "greeting":
        raise AssertionError(f"header kind is missing: {headers}")
    close(terminal)


def receipt():
    terminal = connect()
    terminal.frame("SEND", queue("receipt"), "receipt:order-4711", body="important")
    receipt_of(terminal, "order-4711")
    close(terminal)


def commit():
    terminal = connect()
    terminal.frame("SUBSCRIBE", queue("commit"), "id:s")
    terminal.frame("BEGIN", "transaction:t1")
    terminal.frame("SEND", queue("commit"), "transaction:t1", body="first")
    terminal.frame("SEND", queue("commit"), "transaction:t1", body="second")
    terminal.frame("SEND", queue("commit"), body="outside")
    message(terminal, "outside")
    terminal.frame("COMMIT", "transaction:t1")
    message(terminal, "first")
    message(terminal, "second")
    close(terminal)


def abort():
    terminal = connect()
    terminal.frame("SUBSCRIBE", queue("abort"), "id:s")
    terminal.frame("BEGIN", "transaction:t1")
    terminal.frame("SEND", queue("abort"), "transaction:t1", body="never seen")
    terminal.frame("ABORT", "transaction:t1")
    terminal.frame("SEND", queue("abort"), body="after")
    message(terminal, "after")
    close(terminal)


def ack_nack_individual():
    destination = queue("ack_nack_individual")
    terminal = connect()
    terminal.frame("SUBSCRIBE", destination, "id:s", "ack:client-individual")
    terminal.frame("SEND", destination, body="nacked")
    terminal.frame("SEND", destination, body="acked")
    nacked = message(terminal, "nacked")
    acked = message(terminal, "acked")
    # Copied from the screen as they stand there, so their escapes are right already.
    terminal.frame("ACK", f"id:{acked['ack']}")
    terminal.frame("NACK", f"id:{nacked['ack']}")
    again = message(terminal, "nacked")
    if again["redelivered"] != "true":
        raise AssertionError(f"not marked as redelivered: {again}")
    terminal.frame("ACK", f"id:{again['ack']}")
    close(terminal)
    # Nothing may be left: a new consumer sees only what is sent from now on.
    terminal = connect()
    terminal.frame("SUBSCRIBE", destination, "id:s")
    terminal.frame("SEND", destination, body="end")
    message(terminal, "end")
    close(terminal)


def durable_subscription():
    topic, durable = f"destination:/topic/{PREFIX}.news", (f"id:{PREFIX}-reader", "durable:true")

    def publish(body):
        publisher = connect()
        publisher.frame("SEND", topic, body=body)
        close(publisher)

    reader = connect()
    reader.frame("SUBSCRIBE", topic, *durable)
    close(reader)
    publish("while away")
    reader = connect()
    reader.frame("SUBSCRIBE", topic, *durable)
    message(reader, "while away")
    reader.frame("UNSUBSCRIBE", *durable)
    close(reader)
    publish("after the end")
    reader = connect()
    reader.frame("SUBSCRIBE", topic, *durable)
    reader.frame("SEND", topic, body="new")
    message(reader, "new")
    reader.frame("UNSUBSCRIBE", *durable)
    close(reader)


def heart_beats():
    # Enter is a heart-beat. The broker's own show as blank lines.
    terminal = connect("heart-beat:1000,1000")
    terminal.look(0.5)
    presses, shown = 5, ""
    for _ in range(presses):
        terminal.type("")
        shown += terminal.look(0.7)
    blank_lines = shown.count("\n")
    if blank_lines < presses + 2:
        raise AssertionError(f"{presses} times Enter and {blank_lines} blank lines: the broker was silent")
    terminal.frame("SUBSCRIBE", queue("heart_beats"), "id:s")
    terminal.frame("SEND", queue("heart_beats"), body="still here")
    message(terminal, "still here")
    close(terminal)


def binary_body():
    # Ctrl-@ inside the body, which content-length makes part of it.
    terminal = connect()
    terminal.frame("SUBSCRIBE", queue("binary_body"), "id:s")
    terminal.frame("SEND", queue("binary_body"), "content-length:11", body="one\0two\0end")
    terminal.expect(r"MESSAGE\n(?:.+\n)+\none\0two\0end\0", "the body with two NULs")
    close(terminal)


def body_8mib():
    raise NotApplicable("nobody types 8 MiB")


def utf8_headers():
    # A person types the escapes, and sees them in the answer.
    note = r"Grüße\c 漢字\nback\\slash"
    terminal = connect()
    terminal.frame("SUBSCRIBE", queue("utf8_headers"), "id:s")
    terminal.frame("SEND", queue("utf8_headers"), f"note:{note}", body="see header")
    headers = message(terminal, "see header")
    if headers.get("note") != note:
        raise AssertionError(f"expected the note {note!r}, got {headers.get('note')!r}")
    close(terminal)


def bad_destination():
    terminal = connect()
    terminal.frame("SEND", "destination:/nowhere/at-all", "receipt:lost-1", body="lost")
    shown = terminal.expect(r"ERROR\n((?:.+\n)+\n[^\0]*)\0", "an error")[1]
    if "/queue" not in shown or "/topic" not in shown:
        raise AssertionError(f"the error does not say which destinations there are: {shown!r}")
    if "receipt-id:lost-1\n" not in shown:
        raise AssertionError(f"the error carries no receipt-id: {shown!r}")
    terminal.hang_up()


def request_reply():
    server, client = connect(), connect()
    server.frame("SUBSCRIBE", queue("request_reply"), "id:s")
    client.frame("SEND", queue("request_reply"), "reply-to:/temp-queue/answers", "correlation-id:q1", body="question")
    question = message(server, "question")
    server.frame("SEND", f"destination:{question['reply-to']}", "correlation-id:q1", body="answer")
    answer = message(client, "answer")
    if (answer["correlation-id"], answer["subscription"]) != ("q1", "/temp-queue/answers"):
        raise AssertionError(f"not the reply that was asked for: {answer}")
    close(server)
    close(client)


def main():
    installed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", PACKAGES[TOOL]], capture_output=True, text=True, check=False
    )
    print("LIBRARY", PACKAGES[TOOL], installed.stdout or "unknown", flush=True)
    print("PROTOCOL 1.0, 1.2")
    for check in (send_receive, receipt, commit, abort, ack_nack_individual, durable_subscription, heart_beats,
                  binary_body, body_8mib, utf8_headers, bad_destination, request_reply):
        try:
            check()
            print("PASS", check.__name__, flush=True)
        except NotApplicable as reason:
            print(f"N/A {check.__name__}: {reason}", flush=True)
        except Exception as failure:
            print(f"FAIL {check.__name__}: {type(failure).__name__}: {failure}", flush=True)


main()
