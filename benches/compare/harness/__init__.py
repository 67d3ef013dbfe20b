"""Millpond beside RabbitMQ: the same load, in turn, on one machine."""
