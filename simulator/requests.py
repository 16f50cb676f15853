"""Builds the requests of shoppers and staff. Pure: the same arguments give the same request and
request_id, so a second call is a repeat.
"""

import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Final
from uuid import UUID, uuid5

from google.type.money_pb2 import Money as MoneyMessage
from ordermesh.order.v1 import order_pb2, order_service_pb2
from ordermesh.payment.v1 import payment_service_pb2
from ordermesh.warehouse.v1 import inventory_service_pb2

from chassis.values.money import Money, to_message
from simulator.countries import code_of
from simulator.invoices import CURRENCY, Invoice

TOKEN: Final = "tok_ok"  # the sandbox processor's card that always pays
WAREHOUSES: Final = ("london-1", "leeds-1")


def request_id(key: UUID, step: str) -> str:
    """Returns the request_id of a step of `key`: always the same for the same key and step."""
    return str(uuid5(key, step))


def pence(amount: int) -> MoneyMessage:
    """Returns an amount in the currency of the invoices."""
    return to_message(Money(amount, CURRENCY))


def home(sku: str) -> str:
    """Returns the warehouse that keeps the SKU, always the same. The first keeps two thirds of all,
    so many orders need both.
    """
    return WAREHOUSES[0] if zlib.crc32(sku.encode()) % 3 else WAREHOUSES[1]


def checkout(invoice: Invoice, label: str = "") -> order_service_pb2.CreateOrderRequest:
    """Returns the request for an invoice's order. The recipient is invented: the data have none."""
    name = f"Customer {invoice.customer}" if invoice.customer else "A guest"
    return order_service_pb2.CreateOrderRequest(
        request_id=request_id(invoice.key(label), "CreateOrder"),
        customer_id=invoice.customer,
        external_reference=invoice.number,
        items=[
            order_service_pb2.NewOrderItem(
                sku=good.sku, quantity=good.quantity, unit_price=pence(good.price)
            )
            for good in invoice.goods
        ],
        discount_amount=pence(invoice.discount) if invoice.discount else None,
        shipping_amount=pence(invoice.postage) if invoice.postage else None,
        recipient=order_pb2.Recipient(
            name=name,
            address_lines=["1 High Street"],
            locality=invoice.country[:100],
            country_code=code_of(invoice.country),
        ),
    )


def payment(order: order_pb2.Order, key: UUID) -> payment_service_pb2.CreatePaymentRequest:
    """Returns the request that pays the whole order."""
    return payment_service_pb2.CreatePaymentRequest(
        request_id=request_id(key, "CreatePayment"),
        order_id=order.order_id,
        payment_method_token=TOKEN,
        expected_amount=order.total_amount,
    )


def stock_for(invoice: Invoice, label: str = "") -> list[inventory_service_pb2.ReceiveStockRequest]:
    """Returns receipts of exactly the units that the invoice needs, one for each warehouse. A
    repeat receives nothing twice.
    """
    needed: Counter[str] = Counter()
    for good in invoice.goods:
        needed[good.sku] += good.quantity
    return receipts(needed, invoice.key(label))


def receipts(
    needed: Mapping[str, int], key: UUID
) -> list[inventory_service_pb2.ReceiveStockRequest]:
    """Returns receipts of units of up to 500 SKUs, one for each warehouse that keeps them."""
    return [
        inventory_service_pb2.ReceiveStockRequest(
            request_id=request_id(key, f"ReceiveStock:{warehouse}"),
            warehouse_id=warehouse,
            lines=[
                inventory_service_pb2.ReceivedLine(sku=sku, quantity=needed[sku]) for sku in skus
            ],
        )
        for warehouse in WAREHOUSES
        if (skus := [sku for sku in needed if home(sku) == warehouse])
    ]
