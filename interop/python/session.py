"""One STOMP connection to Millpond through stomp.py, with its frames kept until they are asked for."""

import queue
import uuid

import stomp

PATIENCE_S = 15
"""How long a frame that must come may take."""

CONNECTIONS = {
    "1.0": stomp.StompConnection10,
    "1.1": stomp.StompConnection11,
    "1.2": stomp.StompConnection12,
}


class Session(stomp.ConnectionListener):
    """stomp.py calls a listener from its own thread; the queues bring what it hears to the caller's thread."""

    def __init__(self, host, port, version="1.2", heartbeats=None):
        self.version = version
        self.messages = queue.Queue()
        self.receipts = queue.Queue()
        self.errors = queue.Queue()
        self.beats = queue.Queue()
        connected = queue.Queue(maxsize=1)
        self.on_connected = connected.put
        # auto_decode=False hands bodies over as bytes: a body is binary until its content-type says otherwise.
        options = {"auto_decode": False}
        if version != "1.0":
            options["vhost"] = "/"
        if heartbeats:
            options["heartbeats"] = heartbeats
        self.connection = CONNECTIONS[version]([(host, port)], **options)
        self.connection.set_listener("session", self)
        self.connection.connect("guest", "guest", wait=True)
        self.connected = connected.get(timeout=PATIENCE_S)

    def on_message(self, frame):
        self.messages.put(frame)

    def on_receipt(self, frame):
        self.receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame):
        self.errors.put(frame)

    def on_heartbeat(self):
        self.beats.put(True)

    def message(self):
        """The next MESSAGE."""
        return self.messages.get(timeout=PATIENCE_S)

    def error(self):
        """The next ERROR."""
        return self.errors.get(timeout=PATIENCE_S)

    def await_receipt(self, receipt):
        """Waits for one RECEIPT. Receipts of other frames may come in between, in any order."""
        while self.receipts.get(timeout=PATIENCE_S) != receipt:
            pass

    def send(self, destination, body, **headers):
        # bytes, not str: stomp.py counts a str's characters where content-length wants bytes.
        body = body.encode() if isinstance(body, str) else body
        self.connection.send(destination, body, headers=headers)

    def send_confirmed(self, destination, body, **headers):
        """Returns when Millpond has taken responsibility for the message."""
        receipt = str(uuid.uuid4())
        self.send(destination, body, receipt=receipt, **headers)
        self.await_receipt(receipt)

    def subscribe(self, destination, id="s", ack="auto", **headers):
        """Returns when the subscription stands."""
        receipt = str(uuid.uuid4())
        self.connection.subscribe(destination, id=id, ack=ack, headers={"receipt": receipt, **headers})
        self.await_receipt(receipt)

    def unsubscribe(self, id, **headers):
        receipt = str(uuid.uuid4())
        self.connection.unsubscribe(id=id, headers={"receipt": receipt, **headers})
        self.await_receipt(receipt)

    def ack(self, message):
        self._settle("ack", message)

    def nack(self, message):
        self._settle("nack", message)

    def _settle(self, verb, message):
        receipt = str(uuid.uuid4())
        headers = message.headers
        if self.version == "1.2":
            getattr(self.connection, verb)(headers["ack"], receipt=receipt)
        elif self.version == "1.1":
            getattr(self.connection, verb)(headers["message-id"], headers["subscription"], receipt=receipt)
        else:
            # STOMP 1.0 has no NACK and stomp.py no method for it, but Millpond takes one in every version.
            self.connection.send_frame(verb.upper(), {"message-id": headers["message-id"], "receipt": receipt})
        self.await_receipt(receipt)

    def close(self):
        """DISCONNECT with a receipt, so that everything before it has been read by the broker."""
        receipt = str(uuid.uuid4())
        self.connection.disconnect(receipt)
        self.await_receipt(receipt)
