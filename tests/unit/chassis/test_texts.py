"""Texts that PostgreSQL cannot store are found in every kind of field."""

from ordermesh.order.v1.order_pb2 import Recipient
from ordermesh.order.v1.order_service_pb2 import CreateOrderRequest, NewOrderItem
from ordermesh.payment.v1.payment_service_pb2 import IngestProviderWebhookRequest
from ordermesh.warehouse.v1.inventory_service_pb2 import ListStockLevelsRequest

from chassis.values.texts import normalize_codes, with_nul

COMPOSED, DECOMPOSED = "Caf\u00e9", "Cafe\u0301"


def test_nul_is_found_in_every_kind_of_field() -> None:
    """A NUL is found in a plain field, a nested message, a repeated field, one of many messages,
    and a map's key and value. Bytes may have it.
    """
    order = CreateOrderRequest(
        customer_id="a\0b",
        items=[NewOrderItem(sku="fine"), NewOrderItem(sku="\0")],
        recipient=Recipient(name="Ada", address_lines=["1 Test Street", "\0"]),
    )
    assert list(with_nul(order)) == ["customer_id", "items[1].sku", "recipient.address_lines[1]"]
    webhook = IngestProviderWebhookRequest(body=b"\0", headers={"fine": "\0", "\0": "fine"})
    assert sorted(with_nul(webhook)) == ["headers['\\x00']", "headers['fine']"]


def test_other_characters_are_permitted() -> None:
    """Every script, line breaks and other control characters can be stored."""
    assert list(with_nul(NewOrderItem(sku="Grüße 贈り物\n\t\x01"))) == []


def test_codes_are_normalised_to_nfc() -> None:
    """SKUs and warehouse ids, nested, repeated or optional, are converted to NFC. An unset one
    stays unset, and no other text changes.
    """
    order = CreateOrderRequest(
        customer_id=DECOMPOSED,
        items=[NewOrderItem(sku="TEA"), NewOrderItem(sku=DECOMPOSED)],
        recipient=Recipient(name=DECOMPOSED),
    )
    normalize_codes(order)
    assert [item.sku for item in order.items] == ["TEA", COMPOSED]
    assert (order.customer_id, order.recipient.name) == (DECOMPOSED, DECOMPOSED)
    wanted = ListStockLevelsRequest(skus=[DECOMPOSED, "TEA"])
    normalize_codes(wanted)
    assert list(wanted.skus) == [COMPOSED, "TEA"]
    assert not wanted.HasField("warehouse_id")
    wanted.warehouse_id = DECOMPOSED
    normalize_codes(wanted)
    assert wanted.warehouse_id == COMPOSED
