import queue

import stomp


class Inbox(stomp.ConnectionListener):
    def __init__(self):
        self.messages, self.receipts = queue.Queue(), queue.Queue()

    def on_message(self, frame):
        self.messages.put(frame)

    def on_receipt(self, frame):
        self.receipts.put(frame.headers["receipt-id"])


inbox = Inbox()
connection = stomp.Connection12([("127.0.0.1", 61613)])
connection.set_listener("inbox", inbox)
connection.connect("guest", "guest", wait=True)

connection.send("/queue/hello", "Hello from Python", receipt="hello-1")
print("on disk:", inbox.receipts.get(timeout=10))

connection.subscribe("/queue/hello", id="1", ack="client-individual")
message = inbox.messages.get(timeout=10)
print("received:", message.body)
connection.ack(message.headers["ack"])
connection.disconnect()
