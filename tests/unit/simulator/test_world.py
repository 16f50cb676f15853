"""The state of an order that a shopper waits for."""

from ordermesh.order.v1 import order_pb2

from simulator.world import Followed


def test_older_version_is_ignored() -> None:
    """Events and polls give the state in any order and repeatedly. The latest version counts, and
    each status has its first time.
    """
    followed = Followed(order_id="1")
    followed.update(order_pb2.ORDER_STATUS_PROCESSING, 3)
    first = followed.updated_at
    followed.update(order_pb2.ORDER_STATUS_PROCESSING, 3)
    followed.update(order_pb2.ORDER_STATUS_CONFIRMED, 2)
    assert (followed.status, followed.version, followed.updated_at) == (
        order_pb2.ORDER_STATUS_PROCESSING,
        3,
        first,
    )
    assert followed.times == {order_pb2.ORDER_STATUS_PROCESSING: first}
    assert not followed.ended.is_set()
    followed.update(order_pb2.ORDER_STATUS_DELIVERED, 5)
    assert followed.ended.is_set()
