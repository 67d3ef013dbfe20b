"""Two companies exchange offers, and can do nothing else to each other."""

from client import Client, Refused


def connect(company):
    return Client(company, f"{company}'s secret", vhost="market")


def attempt(what, company, action):
    try:
        action(connect(company))
        print(f"{company} may {what}")
    except Refused as refusal:
        print(f"{company} may not {what}: {refusal}")


# Globex keeps a durable queue of its own that collects Acme's offers.
globex = connect("globex")
globex.subscribe("/topic/offers.acme.#", durable="true", x_queue_name="globex-inbox")

acme = connect("acme")
acme.send("/topic/offers.acme.anvils", "anvils, 12 EUR each")
print("globex reads:", globex.receive().body)

attempt("publish in acme's name", "globex", lambda client: client.send("/topic/offers.acme.anvils", "1 EUR each"))
attempt("read its own offers' copies for globex", "acme", lambda client: client.subscribe("/amq/queue/globex-inbox"))
attempt("listen to everything", "acme", lambda client: client.subscribe("/topic/#", x_queue_name="acme-spy"))
attempt("fill a queue of globex", "acme", lambda client: client.send("/queue/globex-inbox", "rubbish"))
