"""An invoice, and resources of the services, for tests. No tests here."""

from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.fulfillment.v1 import fulfillment_pb2
from ordermesh.order.v1 import order_pb2
from ordermesh.shipping.v1 import shipping_pb2

from simulator.invoices import Good, Invoice
from simulator.requests import pence

ORDER_ID = "01890000-0000-7000-8000-000000000001"
FULFILLMENT_ID = "01890000-0000-7000-8000-000000000002"
SHIPMENT_ID = "01890000-0000-7000-8000-000000000003"

INVOICE = Invoice(
    number="536365",
    time=datetime(2010, 12, 1, 8, 26),  # noqa: DTZ001  the files say no zone
    customer="17850",
    country="France",
    goods=(Good("85123A", 6, 255), Good("22139", 2, 765), Good("85123A", 1, 210)),
    postage=1800,
    discount=99,
    rows=5,
    postage_units=1,
)


def fulfillment(status: str, *, picked: int = 0, **changes: Any) -> fulfillment_pb2.Fulfillment:
    """Returns a fulfilment of two lines of three and two units, `picked` of each scanned."""
    fields: dict[str, Any] = {
        "fulfillment_id": FULFILLMENT_ID,
        "order_id": ORDER_ID,
        "warehouse_id": "london-1",
        "status": f"FULFILLMENT_STATUS_{status.upper()}",
        "stock_committed": True,
        "version": 7,
        "picklist": [
            fulfillment_pb2.PicklistLine(
                line_number=1, sku="A", quantity=3, picked_quantity=min(picked, 3)
            ),
            fulfillment_pb2.PicklistLine(
                line_number=4, sku="B", quantity=2, picked_quantity=min(picked, 2)
            ),
        ],
    }
    return fulfillment_pb2.Fulfillment(**(fields | changes))


def shipment(status: str, version: int = 2) -> shipping_pb2.Shipment:
    """Returns a shipment with this status."""
    return shipping_pb2.Shipment(
        shipment_id=SHIPMENT_ID,
        order_id=ORDER_ID,
        warehouse_id="london-1",
        status=shipping_pb2.ShipmentStatus.Value(f"SHIPMENT_STATUS_{status.upper()}"),
        tracking_number="SBX1",
        version=version,
        update_time=Timestamp(seconds=1_700_000_000 + version),
    )


def order(status: str, version: int = 1, total: int = 1000) -> order_pb2.Order:
    """Returns an order with this status."""
    return order_pb2.Order(
        order_id=ORDER_ID,
        order_number="OM-1",
        status=order_pb2.OrderStatus.Value(f"ORDER_STATUS_{status.upper()}"),
        status_reason="BECAUSE",
        version=version,
        total_amount=pence(total),
    )
