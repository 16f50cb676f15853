"""NATS JetStream: the connection, streams, consumers and subscriptions.

stream.py         the connection, and what it ensures on the broker: streams and consumers
event_payload.py  decodes and checks an event's message
subscribe.py      a client's subscription to events
"""
