"""The code that all services share. No module of it depends on a service.

A folder imports no folder that stands above it in this list. Each folder's docstring names its
modules.

service.py  composes a service: database, broker, relay, inbox, server
process.py  starts, supervises and drains a process
ops/        the RPC services that every process hosts for operators
rpc/        calls in and out
consume/    events in
publish/    events out
broker/     NATS JetStream
write/      the write path and its tables
observe/    logs, metrics, traces
values/     values and functions without a database, a broker or a peer
"""
