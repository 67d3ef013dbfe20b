"""Two workers share the queue. One fails in the middle of its work; the other does that work, too."""

from client import Client

done = []
first, second = Client(), Client()
for worker in first, second:
    # One unacknowledged message at a time: whoever is free gets the next one.
    worker.subscribe("/queue/orders", ack="client-individual", prefetch_count="1")

message = first.receive()
print("first takes", message.body, "and crashes")
first.connection.transport.disconnect_socket()  # no DISCONNECT, no ACK: as if the process had died

while message := second.receive(1):
    again = " (again)" if message.headers["redelivered"] == "true" else ""
    print("second does", message.body + again)
    done.append(message.body)
    second.ack(message)
second.close()

assert sorted(done) == [f"order {number}" for number in range(1, 7)]
