"""The RPC services that every process hosts for its operators (ordermesh.ops.v1).

failed_events.py  events that a consumer could not handle
outbox.py         events that the service publishes
wire.py           protobuf for both
"""
