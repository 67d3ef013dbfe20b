"""Fetches the notifications that came since the last time, whether or not anybody was here to receive them."""

from client import Client

client = Client()
client.subscribe("/topic/notify.alice", id="alice-inbox", durable="true", ack="client-individual")
for message in client.receive_all():
    print("alice reads:", message.body)
    client.ack(message)
client.close()
