"""Calls in and out over gRPC.

server.py           the server of a process
interceptor.py      puts one concern around the handlers of a server
interceptors.py     one class for each concern of a call
in_flight.py        the calls that run, for a drain
watch.py            the server's side of a watch
reflection.py       the contracts over gRPC reflection
client.py           channels and calls to peers
retries.py          the calls that gRPC retries
watch_client.py     the client's side of a server stream
circuit_breaker.py  refuses calls to a peer that is away
status.py           a failure as a gRPC status, and back
"""
