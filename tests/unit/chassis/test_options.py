"""Settings of gRPC that must agree between the two sides, or are promises in numbers."""

from chassis.rpc import client, server

CLIENT = dict(client._options({}))
SERVER = dict(server.OPTIONS)


def test_the_server_permits_the_clients_pings() -> None:
    """A client that pings more often than its server permits is thrown out (too_many_pings):
    ours pings more rarely, idle or not.
    """
    assert CLIENT["grpc.keepalive_time_ms"] > SERVER["grpc.http2.min_ping_interval_without_data_ms"]
    assert (
        CLIENT["grpc.keepalive_permit_without_calls"]
        == SERVER["grpc.keepalive_permit_without_calls"]
        == 1
    )


def test_a_lost_peer_is_looked_for_every_second() -> None:
    """The back-off between attempts to connect never grows beyond a second: by default it would
    be two minutes.
    """
    assert (
        CLIENT["grpc.initial_reconnect_backoff_ms"]
        == CLIENT["grpc.min_reconnect_backoff_ms"]
        == 100
    )
    assert CLIENT["grpc.max_reconnect_backoff_ms"] == 1_000


def test_what_one_side_sends_the_other_takes() -> None:
    """Caps on messages are the same seen from both sides."""
    assert CLIENT["grpc.max_send_message_length"] == SERVER["grpc.max_receive_message_length"]
    assert CLIENT["grpc.max_receive_message_length"] == SERVER["grpc.max_send_message_length"]
