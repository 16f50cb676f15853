"""The sample's records, commands and decisions: an order. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from chassis.values.decision import Decision
from chassis.values.envelope import Context, Decider, decider
from chassis.values.errors import Deferred, Exists, Refused


class Status(StrEnum):
    PENDING = "pending"
    CONFIRMED = "confirmed"
    PROCESSING = "processing"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


FORWARD = (Status.PENDING, Status.CONFIRMED, Status.PROCESSING, Status.SHIPPED)
PAYMENT_WINDOW = timedelta(minutes=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    id: UUID
    reference: str  # the checkout that it came from: its natural key
    total: int
    status: Status
    version: int
    deadline: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A row of history and a domain event: one for each transition."""

    order_id: UUID
    version: int
    old: Status | None
    new: Status
    reason: str
    cause: str
    time: datetime


@dataclass(frozen=True, slots=True)
class CreateOrder:
    reference: str
    total: int
    new: bool = True  # for an existing order: True refuses, False skips


@dataclass(frozen=True, slots=True)
class ConfirmPayment:
    pass


@dataclass(frozen=True, slots=True)
class CancelOrder:
    pass


@dataclass(frozen=True, slots=True)
class ShipmentCreated:
    pass


Decided = Decision[Order, Transition]


def create(order: Order | None, command: CreateOrder, context: Context) -> Decided:
    """Returns a new order, pending."""
    if order and command.new:
        # the most similar of the published reasons
        raise Exists("PAYMENT_ALREADY_EXISTS", order_id=str(order.id))
    if order:
        return Decision(order)
    order = Order(
        id=context.target,
        reference=command.reference,
        total=command.total,
        status=Status.PENDING,
        version=1,
        deadline=context.time + PAYMENT_WINDOW,
    )
    transition = Transition(
        order_id=order.id,
        version=1,
        old=None,
        new=Status.PENDING,
        reason="CREATED",
        cause=context.cause,
        time=context.time,
    )
    return Decision(order, [transition], [transition])


def confirm(order: Order | None, _: ConfirmPayment, context: Context) -> Decided:
    """Returns the order, confirmed. Raises Deferred ORDER_NOT_FOUND."""
    order = existing(order)
    return steps(order, way(order.status, Status.CONFIRMED), "PAYMENT_CONFIRMED", context)


def ship(order: Order | None, _: ShipmentCreated, context: Context) -> Decided:
    """Returns the order, shipped. Raises Deferred for an unknown or unpaid order."""
    order = existing(order)
    if order.status is Status.PENDING:
        raise Deferred("PAYMENT_OUTSTANDING")
    return steps(order, way(order.status, Status.SHIPPED), "SHIPMENT_CREATED", context)


def cancel(order: Order | None, _: CancelOrder, context: Context) -> Decided:
    """Returns the order, cancelled. Raises Refused for an order that is already cancelled."""
    order = existing(order)
    if order.status is Status.CANCELLED:
        raise Refused("ORDER_ALREADY_CANCELLED")
    return steps(order, (Status.CANCELLED,), "CANCEL_REQUESTED", context)


def existing(order: Order | None) -> Order:
    """Returns the order. Raises Deferred ORDER_NOT_FOUND."""
    if order is None:
        raise Deferred("ORDER_NOT_FOUND")
    return order


def way(here: Status, there: Status) -> tuple[Status, ...]:
    """Returns the steps forward from here to there; none if the order is there already, or
    beyond.
    """
    return FORWARD[FORWARD.index(here) + 1 : FORWARD.index(there) + 1] if here in FORWARD else ()


def steps(order: Order, path: tuple[Status, ...], reason: str, context: Context) -> Decided:
    """Returns the order at the end of the path; for an empty path the same order, which is a
    skip.
    """
    history = []
    for new in path:
        history.append(
            Transition(
                order_id=order.id,
                version=order.version + 1,
                old=order.status,
                new=new,
                reason=reason,
                cause=context.cause,
                time=context.time,
            )
        )
        order = replace(order, status=new, version=order.version + 1)
    return Decision(order, history, history)


DECIDERS: Mapping[type[Any], Decider[Order, Transition]] = {
    CreateOrder: create,
    ConfirmPayment: confirm,
    ShipmentCreated: ship,
    CancelOrder: cancel,
}

decide = decider(DECIDERS)
