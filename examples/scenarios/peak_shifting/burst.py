"""A burst meets a queue that holds 100 messages. What does not fit is refused, honestly, and sent again later."""

from client import Client, Refused

CAP = {"x-max-length": "100", "x-overflow": "reject-publish"}
sensors, refused = Client(), []
for number in range(150):
    try:
        # The cap counts when the first SEND makes the queue; afterwards the queue is as it was made.
        sensors.send("/queue/readings", f"reading {number}", **CAP)
    except Refused as refusal:
        assert refusal.code == "queue_full"
        refused.append(f"reading {number}")
print(f"{150 - len(refused)} taken, {len(refused)} refused")

# The database takes what it can bear, ten at a time; there is room again, and the sensors send the rest.
database, stored = Client(), []
database.subscribe("/amq/queue/readings", ack="client-individual", prefetch_count="10")
while message := database.receive(1):
    stored.append(message.body)
    database.ack(message)
    if refused:
        sensors.send("/queue/readings", refused.pop(0), **CAP)

print(f"{len(stored)} stored, each once:", len(set(stored)) == 150)
