"""Takes orders and is done with them: it knows a queue's name, not who works on it, nor whether anybody does."""

from client import Client

shop = Client()
for order in range(1, 7):
    shop.send("/queue/orders", f"order {order}")
shop.close()
print("shop: 6 orders placed, closing for today")
