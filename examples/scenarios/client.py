"""What the examples share: a stomp.py connection on which the program waits for what it expects."""

import os
import queue
import uuid

import stomp

BROKER = os.environ.get("BROKER", "127.0.0.1:61613")
PATIENCE_S = 10


class Refused(Exception):
    """The broker answered with an ERROR; `code` is its stable word for what was wrong."""

    def __init__(self, frame):
        super().__init__(frame.body.strip())
        self.code = frame.headers["code"]


class Client(stomp.ConnectionListener):
    def __init__(self, user="guest", password="guest", vhost="/"):
        self.messages, self.answers = queue.Queue(), queue.Queue()
        host, _, port = BROKER.rpartition(":")
        self.connection = stomp.Connection12([(host, int(port))], vhost=vhost)
        self.connection.set_listener("client", self)
        self.connection.connect(user, password, wait=True)

    # stomp.py calls these three from a thread of its own.
    def on_message(self, frame):
        self.messages.put(frame)

    def on_receipt(self, frame):
        self.answers.put(frame)

    def on_error(self, frame):
        self.answers.put(frame)

    def confirmed(self, send, *arguments, headers):
        """Does something with a receipt asked for, and waits for the answer."""
        receipt = str(uuid.uuid4())
        send(*arguments, headers={"receipt": receipt, **headers})
        answer = self.answers.get(timeout=PATIENCE_S)
        if answer.cmd == "ERROR":
            raise Refused(answer)
        assert answer.headers["receipt-id"] == receipt

    def send(self, destination, body, **headers):
        """Returns once the broker has taken responsibility for the message."""
        self.confirmed(self.connection.send, destination, body, headers=headers)

    def subscribe(self, destination, id="1", ack="auto", **headers):
        """Returns once the subscription stands. Underscores in names of headers become dashes."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.confirmed(self.connection.subscribe, destination, id, ack, headers=headers)

    def receive(self, patience_s=PATIENCE_S):
        """The next message; None if there is none for so long."""
        try:
            return self.messages.get(timeout=patience_s)
        except queue.Empty:
            return None

    def receive_all(self):
        """The messages that are there: those until a second passes without one."""
        return list(iter(lambda: self.receive(1), None))

    def ack(self, message):
        self.connection.ack(message.headers["ack"])

    def nack(self, message):
        self.connection.nack(message.headers["ack"])

    def close(self):
        """Leaves when everything before it has been carried out."""
        self.connection.disconnect(str(uuid.uuid4()))
        self.answers.get(timeout=PATIENCE_S)
