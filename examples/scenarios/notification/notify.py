"""Notifies somebody who is not there. When `send` returns, the message is on disk."""

from client import Client

client = Client()
for text in "your parcel was sent", "your parcel arrives today", "your parcel was delivered":
    client.send("/topic/notify.alice", text, persistent="true")
    print("safe:", text)
