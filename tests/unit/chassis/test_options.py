"""Settings of gRPC that must agree between client and server, or that guarantee a time."""

from chassis.rpc import client, server

CLIENT = dict(client.OPTIONS)
SERVER = dict(server.OPTIONS)


def test_server_permits_the_clients_pings() -> None:
    """A server closes the connection of a client that pings too often (too_many_pings). The
    client's interval is longer than the server's minimum, with and without calls.
    """
    assert CLIENT["grpc.keepalive_time_ms"] > SERVER["grpc.http2.min_ping_interval_without_data_ms"]
    assert (
        CLIENT["grpc.keepalive_permit_without_calls"]
        == SERVER["grpc.keepalive_permit_without_calls"]
        == 1
    )


def test_lost_peer_is_connected_to_every_second() -> None:
    """The back-off between attempts to connect never exceeds a second; gRPC's default is two
    minutes.
    """
    assert (
        CLIENT["grpc.initial_reconnect_backoff_ms"]
        == CLIENT["grpc.min_reconnect_backoff_ms"]
        == 100
    )
    assert CLIENT["grpc.max_reconnect_backoff_ms"] == 1_000


def test_message_limits_of_both_sides_agree() -> None:
    """The limits on messages are the same on both sides."""
    assert CLIENT["grpc.max_send_message_length"] == SERVER["grpc.max_receive_message_length"]
    assert CLIENT["grpc.max_receive_message_length"] == SERVER["grpc.max_send_message_length"]
