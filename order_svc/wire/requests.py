"""Requests of callers about orders, as commands in envelopes, and as filters."""

import unicodedata
from typing import TypeVar
from uuid import UUID

from google.protobuf.message import Message
from ordermesh.order.v1 import order_pb2, order_service_pb2

from chassis.values.convert import invalid_field, money, optional_field
from chassis.values.envelope import Envelope
from chassis.values.request_context import RequestContext
from order_svc.lifecycle import Reason
from order_svc.model.checkout import Checkout, CheckoutLine
from order_svc.model.commands import CancelItems, CancelOrder, PlaceOrder, RetryOrder
from order_svc.model.filters import OrderFilter
from order_svc.model.records import Recipient
from order_svc.wire.enums import STATUS_OF, STOCK_OF

C = TypeVar("C")


def checkout(request: order_service_pb2.CreateOrderRequest) -> Checkout:
    """Returns the checkout of the request.

    Raises Invalid VALIDATION_FAILED for an amount in another currency than the first item's, for
    an amount with a fraction of the minor unit, and for `unique_external_reference` without an
    external reference.
    """
    currency = request.items[0].unit_price.currency_code
    if request.unique_external_reference and not request.HasField("external_reference"):
        raise invalid_field("unique_external_reference", "needs an external_reference")

    def minor(message: Message, name: str, path: str = "") -> int:
        if not message.HasField(name):
            return 0
        return money(getattr(message, name), path + name, currency).minor

    lines = tuple(
        CheckoutLine(
            sku=item.sku,
            quantity=item.quantity,
            unit_price=minor(item, "unit_price", f"items[{index}]."),
            discount=minor(item, "discount_amount", f"items[{index}]."),
            tax=minor(item, "tax_amount", f"items[{index}]."),
        )
        for index, item in enumerate(request.items)
    )
    return Checkout(
        currency=currency,
        lines=lines,
        discount=minor(request, "discount_amount"),
        tax=minor(request, "tax_amount"),
        shipping=minor(request, "shipping_amount"),
        customer_id=optional_field(request, "customer_id"),
        external_reference=optional_field(request, "external_reference"),
        recipient=_recipient(request.recipient),
        unique_external_reference=request.unique_external_reference,
    )


def place_order(
    request: order_service_pb2.CreateOrderRequest,
    context: RequestContext,
) -> Envelope[PlaceOrder]:
    """The command has no stock yet. The target is the request_id until the warehouse's answer gives
    the order's id.
    """
    request_id = UUID(request.request_id)
    command = PlaceOrder(checkout_key=context.key, checkout=checkout(request), allocations={})
    return requested(context, request_id, str(request_id), command)


def cancel_order(
    request: order_service_pb2.CancelOrderRequest,
    context: RequestContext,
) -> Envelope[CancelOrder]:
    command = CancelOrder(
        expected_version=optional_field(request, "expected_version"),
        reason=optional_field(request, "reason") or Reason.CUSTOMER_REQUEST,
    )
    return requested(context, UUID(request.order_id), request.request_id, command)


def cancel_items(
    request: order_service_pb2.CancelOrderItemsRequest,
    context: RequestContext,
) -> Envelope[CancelItems]:
    command = CancelItems(
        expected_version=optional_field(request, "expected_version"),
        units={line.line_number: line.quantity for line in request.lines},
        reason=optional_field(request, "reason") or Reason.CUSTOMER_REQUEST,
    )
    return requested(context, UUID(request.order_id), request.request_id, command)


def retry_order(
    request: order_service_pb2.RetryOrderRequest,
    context: RequestContext,
) -> Envelope[RetryOrder]:
    """The command has neither the number of the new attempt yet nor its stock."""
    command = RetryOrder(
        expected_version=optional_field(request, "expected_version"),
        attempt=0,
        allocations=None,
    )
    return requested(context, UUID(request.order_id), request.request_id, command)


def requested(context: RequestContext, target: UUID, cause: str, command: C) -> Envelope[C]:
    """Returns the envelope of a call. This service is the actor; the caller's claimed actor comes
    from the context. See order_svc.model.history.StatusTransition for the cause.
    """
    return Envelope.of_request(context, command, target=target, actor="order", cause=cause)


def order_filter(request: order_service_pb2.ListOrdersRequest) -> OrderFilter:
    return OrderFilter(
        statuses=tuple(STATUS_OF[status] for status in request.statuses),
        customer_id=optional_field(request, "customer_id"),
        external_reference=optional_field(request, "external_reference"),
        number=optional_field(request, "order_number"),
        create_time_from=optional_field(request, "create_time_from"),
        create_time_before=optional_field(request, "create_time_before"),
        stock=STOCK_OF.get(request.stock_status),
        update_time_from=optional_field(request, "update_time_from"),
        update_time_before=optional_field(request, "update_time_before"),
    )


def _recipient(recipient: order_pb2.Recipient) -> Recipient:
    """Names and places are stored composed (NFC): a letter and its accent may come as two
    characters, which labels cannot print.
    """
    return Recipient(
        name=_composed(recipient.name),
        address_lines=tuple(map(_composed, recipient.address_lines)),
        locality=_composed(recipient.locality),
        administrative_area=_composed(recipient.administrative_area),
        postal_code=recipient.postal_code,
        country_code=recipient.country_code,
        email=recipient.email,
        phone=recipient.phone,
    )


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
