"""One feed, three readers: each names by pattern and by tag what it wants to see."""

from client import Client

everything, euro, alarms = Client(), Client(), Client()
everything.subscribe("/topic/prices.#")  # any number of further words
euro.subscribe("/topic/prices.*.eur")  # exactly one word in the middle
alarms.subscribe("/topic/prices.#", filter_tags="limit-up, halted")  # at least one of these tags

feed = Client()
feed.send("/topic/prices.gold.eur", "2310.50")
feed.send("/topic/prices.gold.usd", "2498.10", tags="limit-up, metal")
feed.send("/topic/prices.oil.brent.usd", "81.20", tags="energy")

for name, reader in ("everything", everything), ("euro", euro), ("alarms", alarms):
    print(name, [message.body for message in reader.receive_all()])
