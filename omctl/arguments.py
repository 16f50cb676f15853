"""Parses arguments of the command line: items, amounts, statuses, ids. Pure. An argument that does
not parse is a usage error that shows the accepted form.
"""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money as MoneyMessage
from ordermesh.order.v1 import order_service_pb2
from ordermesh.warehouse.v1 import inventory_service_pb2

from chassis.values.money import Money, MoneyError, minor_digits, to_message
from omctl.config import SERVICES
from omctl.names import values_of

TIME_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]


def amount(text: str, currency: str) -> MoneyMessage:
    """Returns an amount such as 12.50, exactly. Raises typer.BadParameter if the text is no amount
    or has more digits than the currency.
    """
    try:
        digits = minor_digits(currency)
    except MoneyError as error:
        raise typer.BadParameter(f"{error}.") from error
    whole, point, part = text.partition(".")
    plain = all(
        each.isascii() and each.isdigit() for each in ((whole, part) if point else (whole,))
    )
    if not plain or len(whole) > 12 or len(part) > digits:
        raise typer.BadParameter(
            f"{text!r} is no amount in {currency}: write it as"
            f" {'12.' + '5' * digits if digits else '12'}."
        )
    return to_message(Money(int(whole + part.ljust(digits, "0")), currency))


def order_item(text: str, currency: str) -> order_service_pb2.NewOrderItem:
    """Parses SKU:QUANTITY:PRICE. The SKU may contain colons."""
    parts = text.rsplit(":", 2)
    if len(parts) != 3 or not parts[0]:
        raise typer.BadParameter(
            f"{text!r} is no item: write it as SKU:QUANTITY:PRICE, for example TEAPOT:2:18.95."
        )
    return order_service_pb2.NewOrderItem(
        sku=parts[0], quantity=units(parts[1]), unit_price=amount(parts[2], currency)
    )


def stock_item(text: str) -> inventory_service_pb2.ReceivedLine:
    """Parses SKU:QUANTITY. The SKU may contain colons."""
    sku, _, quantity = text.rpartition(":")
    if not sku:
        raise typer.BadParameter(
            f"{text!r} is no item: write it as SKU:QUANTITY, for example TEAPOT:100."
        )
    return inventory_service_pb2.ReceivedLine(sku=sku, quantity=units(quantity))


def cancelled_line(text: str) -> order_service_pb2.CancelledLine:
    """Parses LINE:QUANTITY."""
    number, colon, quantity = text.partition(":")
    if not colon:
        raise typer.BadParameter(
            f"{text!r} is no line: write it as LINE:QUANTITY, for example 2:1."
        )
    return order_service_pb2.CancelledLine(line_number=units(number), quantity=units(quantity))


def units(text: str) -> int:
    """Parses a number of units. The service checks the contract's bounds."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise typer.BadParameter(f"{text!r} is no number of units.")
    return int(text)


def service(text: str) -> str:
    """Returns the name of one of the five services, in lower case."""
    if text.lower() not in SERVICES:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(SERVICES)}.")
    return text.lower()


def consumer(text: str) -> str:
    """Returns a consumer's name. It begins with its service's: order-payments."""
    if text.partition("-")[0] not in SERVICES:
        known = f"{SERVICES[0]}-payments"
        raise typer.BadParameter(
            f"{text!r} is no consumer: its name begins with its service's, as in {known}."
        )
    return text


def value_of(enum: object) -> Callable[[str], int]:
    """Returns a parser of the enum's names, such as a status."""
    known = values_of(enum)

    def parse(text: str) -> int:
        if text.lower() not in known:
            raise typer.BadParameter(f"{text!r} is none of {', '.join(known)}.")
        return known[text.lower()]

    return parse


def uuid(text: str) -> str:
    """Returns a UUID in its canonical form."""
    try:
        return str(UUID(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no UUID.") from error


def moment(time: datetime | None) -> Timestamp | None:
    """Returns a typed time, of whole seconds, as a Timestamp; a time without a zone is local."""
    return Timestamp(seconds=int(time.timestamp())) if time else None
