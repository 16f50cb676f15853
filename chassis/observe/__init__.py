"""What operators see of a process.

telemetry.py  logs, metrics and the exporter of traces
tracing.py    spans of calls, on the server's and the client's side
"""
