"""The output of a process for its operators.

telemetry.py  logs, metrics and the exporter of traces
tracing.py    the span of a call, on the server's and the client's side
"""
