"""The interop checks through stomp.py: checks.py HOST PORT PREFIX VERSION"""

import sys
import time
from importlib.metadata import version

from session import Session

HOST, PORT, PREFIX, VERSION = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
EVERY_BYTE = bytes(range(256)) * 4


class NotApplicable(Exception):
    """The library cannot do what the check asks for."""


def connect(**options):
    return Session(HOST, PORT, VERSION, **options)


def queue(check):
    return f"/queue/{PREFIX}.{check}"


def equal(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: expected {expected!r:.80}, got {actual!r:.80}")


def send_receive():
    session = connect()
    session.subscribe(queue("send_receive"))
    session.send(queue("send_receive"), "hello", kind="greeting")
    message = session.message()
    equal(message.body, b"hello", "body")
    equal(message.headers["kind"], "greeting", "header kind")
    session.close()


def receipt():
    session = connect()
    session.send(queue("receipt"), "important", receipt="order-4711")
    session.await_receipt("order-4711")
    session.close()


def commit():
    session = connect()
    session.subscribe(queue("commit"))
    transaction = session.connection.begin()
    session.send(queue("commit"), "first", transaction=transaction)
    session.send(queue("commit"), "second", transaction=transaction)
    session.send(queue("commit"), "outside")
    equal(session.message().body, b"outside", "a message sent outside the open transaction")
    session.connection.commit(transaction)
    equal([session.message().body for _ in range(2)], [b"first", b"second"], "committed messages")
    session.close()


def abort():
    session = connect()
    session.subscribe(queue("abort"))
    transaction = session.connection.begin()
    session.send(queue("abort"), "never seen", transaction=transaction)
    session.connection.abort(transaction)
    session.send(queue("abort"), "after")
    equal(session.message().body, b"after", "the only message")
    session.close()


def ack_nack_individual():
    session = connect()
    destination = queue("ack_nack_individual")
    session.subscribe(destination, ack="client-individual")
    session.send(destination, "nacked")
    session.send(destination, "acked")
    nacked, acked = session.message(), session.message()
    equal([nacked.body, acked.body], [b"nacked", b"acked"], "deliveries")
    session.ack(acked)
    session.nack(nacked)
    again = session.message()
    equal((again.body, again.headers["redelivered"]), (b"nacked", "true"), "the nacked message again")
    session.ack(again)
    session.close()
    # Nothing may be left: a new consumer sees only what is sent from now on.
    session = connect()
    session.subscribe(destination)
    session.send(destination, "end")
    equal(session.message().body, b"end", "next message on a new connection")
    session.close()


def durable_subscription():
    topic, name = f"/topic/{PREFIX}.news", f"{PREFIX}-reader"
    reader = connect()
    reader.subscribe(topic, id=name, durable="true")
    reader.close()
    publisher = connect()
    publisher.send_confirmed(topic, "while away")
    reader = connect()
    reader.subscribe(topic, id=name, durable="true")
    equal(reader.message().body, b"while away", "message published while the reader was away")
    reader.unsubscribe(name, durable="true")
    reader.close()
    publisher.send_confirmed(topic, "after the end")
    reader = connect()
    reader.subscribe(topic, id=name, durable="true")
    publisher.send_confirmed(topic, "new")
    equal(reader.message().body, b"new", "first message of the subscription made anew")
    reader.unsubscribe(name, durable="true")
    reader.close()
    publisher.close()


def heart_beats():
    if VERSION == "1.0":
        raise NotApplicable("STOMP 1.0 has no heart-beats")
    session = connect(heartbeats=(1000, 1000))
    if session.connected.headers["heart-beat"].startswith("0,"):
        raise AssertionError(f"no heart-beats agreed: {session.connected.headers['heart-beat']}")
    for _ in range(3):
        session.beats.get(timeout=10)
    # A whole interval of silence on our side but for the beats: that is what is checked.
    time.sleep(1)
    session.subscribe(queue("heart_beats"))
    session.send(queue("heart_beats"), "still here")
    equal(session.message().body, b"still here", "message after the idle time")
    session.close()


def binary_body():
    session = connect()
    session.subscribe(queue("binary_body"))
    session.send(queue("binary_body"), EVERY_BYTE, **{"content-type": "application/octet-stream"})
    equal(session.message().body, EVERY_BYTE, "body")
    session.close()


def body_8mib():
    body = EVERY_BYTE * 8192
    session = connect()
    session.subscribe(queue("body_8mib"))
    session.send(queue("body_8mib"), body)
    if session.message().body != body:
        raise AssertionError("the body came back changed")
    session.close()


def utf8_headers():
    # 1.0 has no escapes: what would need one (line ends, and a backslash that stomp.py would unescape) cannot be sent.
    value = "Grüße: 漢字" if VERSION == "1.0" else "Grüße: 漢字\nback\\slash"
    session = connect()
    session.subscribe(queue("utf8_headers"))
    session.send(queue("utf8_headers"), "see header", note=value)
    equal(session.message().headers["note"], value, "header note")
    session.close()


def bad_destination():
    session = connect()
    session.send("/nowhere/at-all", "lost", receipt="lost-1")
    error = session.error()
    text = error.headers["message"] + "\n" + error.body.decode()
    if "/queue" not in text or "/topic" not in text:
        raise AssertionError(f"the error does not say which destinations there are: {text!r}")
    equal(error.headers.get("receipt-id"), "lost-1", "receipt-id of the error")
    session.connection.disconnect()


def request_reply():
    server, client = connect(), connect()
    server.subscribe(queue("request_reply"))
    client.send(queue("request_reply"), "question", **{"reply-to": "/temp-queue/answers", "correlation-id": "q1"})
    question = server.message()
    server.send(question.headers["reply-to"], "answer", **{"correlation-id": question.headers["correlation-id"]})
    answer = client.message()
    equal(answer.body, b"answer", "body")
    equal(answer.headers["correlation-id"], "q1", "correlation-id")
    equal(answer.headers["subscription"], "/temp-queue/answers", "subscription")
    server.close()
    client.close()


def main():
    print("LIBRARY stomp.py", version("stomp.py"))
    session = connect()
    print("PROTOCOL", session.connected.headers["version"])
    session.close()
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
