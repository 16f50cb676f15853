"""Changes of reservations by checkouts, by events of the order and by the expiry worker. All
reservations of an attempt change together.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import NotFound, Refused, Violation
from warehouse_svc.decisions.posting import Decided, StockPosting
from warehouse_svc.decisions.sourcing import demand, shortages, source
from warehouse_svc.lifecycle import MovementKind, Reason, Status
from warehouse_svc.model.commands import (
    ApplyAllocations,
    CloseAttempt,
    ConfirmReservations,
    ExpireReservations,
    ReleaseReservations,
    RenewReservations,
    ReserveStock,
)
from warehouse_svc.model.events import ReservationChanged
from warehouse_svc.model.records import (
    Availability,
    OrderReservations,
    OrderStock,
    Reservation,
    WantedLine,
)

# Where at least this share of the ttl is left, a repeat does not renew the reservations: the rest
# is long enough for an order that is placed now.
RENEWAL_THRESHOLD = 0.9
# An order's events name each line at each of its warehouses. So this bounds their size, which must
# stay below chassis.values.event_subjects.MESSAGE_BYTES_MAX.
WAREHOUSES_MAX = 8
SHORTAGES_IN_METADATA = 10  # long SKUs too must fit into a gRPC status


def reserve(record: OrderStock, command: ReserveStock, context: Context) -> Decided:
    """Reserves all lines or none. Earlier reservations of the attempt must have expired."""
    order_reservations = record.order_reservations or OrderReservations(order_id=context.target)
    reservations = order_reservations.of_attempt(command.attempt)
    refuse_closed_attempt(order_reservations, command.attempt)
    if unexpired := [r for r in reservations if not r.has_expired(context.time)]:
        text = (
            f"Attempt {command.attempt} of order {context.target} has reservations of another"
            " request."
        )
        raise Refused(
            "RESERVATION_CLOSED", text, order_id=str(context.target), status=unexpired[0].status
        )
    posting = StockPosting(record, command, context)
    for reservation in reservations:
        posting.move_all(reservation, MovementKind.EXPIRE)
    reserve_next_generation(
        posting, command.attempt, command.lines, reservations, context.time + command.ttl
    )
    return posting.decision()


def renew(record: OrderStock, command: RenewReservations, context: Context) -> Decided:
    """Replaces the reservations if all have expired; else extends the active ones."""
    order_reservations = record.order_reservations
    reservations = order_reservations.of_attempt(command.attempt) if order_reservations else ()
    if (
        not order_reservations
        or command.attempt <= order_reservations.closed_attempt
        or not due_for_renewal(reservations, command.ttl, context.time)
    ):
        return Decision(record)
    if not all(r.has_expired(context.time) for r in reservations):
        return extend(record, order_reservations, reservations, command, context.time)
    posting = StockPosting(record, command, context)
    for reservation in reservations:
        posting.move_all(reservation, MovementKind.EXPIRE)
    reservations = tuple(map(posting.current, reservations))
    reserve_next_generation(
        posting,
        command.attempt,
        expired_units(reservations),
        reservations,
        context.time + command.ttl,
    )
    return posting.decision()


def due_for_renewal(reservations: Sequence[Reservation], ttl: timedelta, now: datetime) -> bool:
    """Returns whether a repeated request renews the reservations: too little of their ttl is left.

    The order of that request may be placed only now.
    """
    if not reservations or all(r.has_expired(now) for r in reservations):
        return bool(reservations)
    return any(
        r.status is Status.ACTIVE and r.expire_time - now < ttl * RENEWAL_THRESHOLD
        for r in reservations
    )


def extend(
    record: OrderStock,
    order_reservations: OrderReservations,
    reservations: Sequence[Reservation],
    command: RenewReservations,
    now: datetime,
) -> Decided:
    """Returns the decision that sets the expire_time of active reservations to now + ttl.

    No unit moves and no status changes, so it has no event.
    """
    active = {r.id for r in reservations if r.status is Status.ACTIVE}
    extended = tuple(
        replace(each, expire_time=now + command.ttl, version=each.version + 1, update_time=now)
        if each.id in active
        else each
        for each in order_reservations.reservations
    )
    after = replace(
        order_reservations, version=order_reservations.version + 1, reservations=extended
    )
    return Decision(replace(record, order_reservations=after))


def confirm(record: OrderStock, command: ConfirmReservations, context: Context) -> Decided:
    """Commits all units that the attempt has reserved, also past their expire_time.

    It commits expired units only if they are still sellable. On the event path no caller reads a
    refusal: it becomes a domain event. The refusal of a closed attempt does not, because the order
    service closed the attempt.
    """
    if (
        command.by_event
        and record.order_reservations
        and command.attempt <= record.order_reservations.closed_attempt
    ):
        return Decision(record)
    order_reservations, reservations = reservations_of(record, command.attempt)
    if not command.by_event:
        return commit(record, command, reservations, context)
    try:
        return commit(record, command, reservations, context)
    except Refused as refusal:
        after = replace(order_reservations, version=order_reservations.version + 1)
        event = ReservationChanged(
            reservation=reservations[0],
            old_status=reservations[0].status,
            attempt_reservations=reservations,
            reservations_version=after.version,
            time=context.time,
            reason=Reason.CONFIRM_REFUSED,
            actor=context.actor,
            cause=context.cause,
            claimed_actor=context.claimed_actor,
            refused=refusal.reason,
        )
        return Decision(replace(record, order_reservations=after), events=[event])


def commit(
    record: OrderStock,
    command: ConfirmReservations,
    reservations: Sequence[Reservation],
    context: Context,
) -> Decided:
    """Commits the attempt's units. Raises Refused where that is not possible."""
    refuse_closed_attempt(record.existing_reservations, command.attempt)
    statuses = {r.status for r in reservations}
    posting = StockPosting(record, command, context)
    if Status.ACTIVE in statuses:
        for reservation in reservations:
            posting.move_all(reservation, MovementKind.CONFIRM)
    elif statuses == {Status.RELEASED}:
        text = f"The units of attempt {command.attempt} of order {context.target} were released."
        raise Refused(
            "RESERVATION_CLOSED", text, order_id=str(context.target), status=Status.RELEASED
        )
    elif Status.EXPIRED in statuses:
        for new in replace_expired(posting, command.attempt, reservations, context.time):
            posting.move_all(new, MovementKind.CONFIRM)
    return posting.decision()


def release(record: OrderStock, command: ReleaseReservations, context: Context) -> Decided:
    """Releases reserved units, of all lines or up to the given units of some.

    Committed units stay until the fulfilment service reports them.
    """
    _, reservations = reservations_of(record, command.attempt)
    posting = StockPosting(record, command, context)
    for reservation in reservations if not command.released else ():
        posting.move_all(reservation, MovementKind.RELEASE)
    for number, target in command.released.items():
        release_line(posting, reservations, number, target)
    return posting.decision()


def release_line(
    posting: StockPosting, reservations: Sequence[Reservation], number: int, target: int
) -> None:
    """Releases units of one line until `target` are released.

    The reservation that was made last comes first. Raises Refused QUANTITY_OUT_OF_RANGE where the
    line has fewer units.
    """
    parts = [(r, line) for r in reversed(reservations) for line in r.lines if line.number == number]
    missing = target - sum(line.released for _, line in parts)
    if missing > sum(line.reserved + line.committed for _, line in parts):
        text = f"Line {number} has fewer than {target} released or releasable units."
        raise Refused("QUANTITY_OUT_OF_RANGE", text, line_number=str(number))
    for reservation, line in parts:
        if units := min(max(missing, 0), line.reserved):
            posting.move_units(reservation, number, MovementKind.RELEASE, units)
            missing -= units


def expire(record: OrderStock, command: ExpireReservations, context: Context) -> Decided:
    """Expires the order's reservations whose expire_time has passed, of all attempts."""
    posting = StockPosting(record, command, context)
    for reservation in record.order_reservations.reservations if record.order_reservations else ():
        if reservation.has_expired(context.time):
            posting.move_all(reservation, MovementKind.EXPIRE)
    return posting.decision()


def close_attempt(record: OrderStock, command: CloseAttempt, context: Context) -> Decided:
    """Closes the attempt and all before it: a confirmation of theirs is refused from now on.

    It releases their reserved units. Committed units are uncommitted at once where the order was
    still pending; else when the fulfilment service reports them. Where the order has no
    reservations (yet), the closed attempt is stored if the order service closed it. Raises NotFound
    RESERVATION_NOT_FOUND if another service did: the order may not exist.
    """
    if not command.by_order and record.order_reservations is None:
        raise reservation_not_found(command.attempt)
    posting = StockPosting(record, command, context)
    for reservation in record.order_reservations.reservations if record.order_reservations else ():
        if reservation.attempt <= command.attempt:
            posting.move_all(reservation, MovementKind.RELEASE)
        if reservation.attempt == command.attempt and command.while_pending:
            posting.move_all(reservation, MovementKind.UNCOMMIT)
    return posting.decision(closed_attempt=command.attempt)


def apply_allocations(record: OrderStock, command: ApplyAllocations, context: Context) -> Decided:
    """Frees the units that the order no longer allocates.

    Reserved units are released at once. Committed units stay until the fulfilment service reports
    them. If the order was pending when it cancelled them, they are never on a picklist: then they
    are uncommitted at once.

    Where the order names other reservations than the attempt's current ones, nothing changes: the
    order has not applied their replacement yet.
    """
    _, reservations = reservations_of(record, command.attempt)
    posting = StockPosting(record, command, context)
    if not {id for id, _ in command.allocated} <= {r.id for r in reservations}:
        return posting.decision()
    for reservation, line in [(r, line) for r in reservations for line in r.lines]:
        excess = max(line.allocated - command.allocated.get((reservation.id, line.number), 0), 0)
        released = min(excess, line.reserved)
        uncommitted = min(excess - released, line.committed) if command.while_pending else 0
        for kind, units in (
            (MovementKind.RELEASE, released),
            (MovementKind.UNCOMMIT, uncommitted),
        ):
            if units:
                posting.move_units(reservation, line.number, kind, units)
    return posting.decision()


# --- shared by the deciders


def reservations_of(
    record: OrderStock, attempt: int
) -> tuple[OrderReservations, tuple[Reservation, ...]]:
    """Returns the order's reservations, and the attempt's current ones.

    Raises NotFound RESERVATION_NOT_FOUND where the attempt has none.
    """
    if record.order_reservations is None or not (
        reservations := record.order_reservations.of_attempt(attempt)
    ):
        raise reservation_not_found(attempt)
    return record.order_reservations, reservations


def reservation_not_found(attempt: int) -> NotFound:
    """Returns the failure of a command for an attempt that has no reservation (yet)."""
    return NotFound(
        "RESERVATION_NOT_FOUND",
        f"Attempt {attempt} of this order has no reservation.",
        attempt=str(attempt),
    )


def refuse_closed_attempt(order_reservations: OrderReservations, attempt: int) -> None:
    """Raises Refused RESERVATION_CLOSED for a closed attempt."""
    if attempt <= order_reservations.closed_attempt:
        text = f"Attempt {attempt} of order {order_reservations.order_id} is closed."
        raise Refused(
            "RESERVATION_CLOSED",
            text,
            order_id=str(order_reservations.order_id),
            status="order_ended",
        )


def replace_expired(
    posting: StockPosting, attempt: int, reservations: Sequence[Reservation], now: datetime
) -> list[Reservation]:
    """Replaces expired reservations, and returns the new ones.

    Raises Refused RESERVATION_EXPIRED where the units are sold.
    """
    lines = expired_units(reservations)
    if short := shortages(lines, posting.sellable()):
        text = f"The reservations of attempt {attempt} have expired, and their units are sold."
        raise Refused(
            "RESERVATION_EXPIRED",
            text,
            violations=violations(short, "RESERVATION_EXPIRED"),
            **metadata(short),
        )
    return reserve_next_generation(posting, attempt, lines, reservations, now)


def reserve_next_generation(
    posting: StockPosting,
    attempt: int,
    lines: Sequence[WantedLine],
    before: Sequence[Reservation],
    expire_time: datetime,
) -> list[Reservation]:
    """Reserves the lines in the next generation, and returns the new reservations.

    Raises Refused INSUFFICIENT_STOCK, which names each SKU with too few sellable units, and Refused
    TOO_MANY_WAREHOUSES where the units lie in more than WAREHOUSES_MAX.
    """
    sellable = posting.sellable()
    if short := shortages(lines, sellable):
        text = f"{len(short)} of {len(demand(lines))} SKUs have too few sellable units."
        raise Refused(
            "INSUFFICIENT_STOCK",
            text,
            violations=violations(short, "INSUFFICIENT_STOCK"),
            **metadata(short),
        )
    generation = max((r.generation for r in before), default=0) + 1
    by_warehouse = source(lines, sellable, [r.warehouse_id for r in before])
    if len(by_warehouse) > WAREHOUSES_MAX:
        text = (
            f"The units lie in {len(by_warehouse)} warehouses, and at most {WAREHOUSES_MAX} serve"
            " one order. Place several smaller orders."
        )
        raise Refused(
            "TOO_MANY_WAREHOUSES",
            text,
            warehouses=str(len(by_warehouse)),
            warehouses_max=str(WAREHOUSES_MAX),
        )
    return [
        posting.reserve(attempt, generation, warehouse_id, parts, expire_time)
        for warehouse_id, parts in by_warehouse.items()
    ]


def expired_units(reservations: Sequence[Reservation]) -> list[WantedLine]:
    """Returns the expired units of the reservations, by order line."""
    units: dict[int, WantedLine] = {}
    for line in (line for r in reservations for line in r.lines if line.expired):
        earlier = units.get(line.number)
        units[line.number] = WantedLine(
            line.number, line.sku, line.expired + (earlier.quantity if earlier else 0)
        )
    return [units[number] for number in sorted(units)]


def violations(short: Sequence[Availability], kind: str) -> list[Violation]:
    return [
        Violation(s.sku, f"requested {s.requested}, sellable {s.sellable}", kind) for s in short
    ]


def metadata(short: Sequence[Availability]) -> dict[str, str]:
    """Returns the first shortages as metadata of an error: sku_1, requested_1, sellable_1, ...

    `shortages` is the number of all of them.
    """
    fields = {"shortages": str(len(short))}
    for number, shortage in enumerate(short[:SHORTAGES_IN_METADATA], 1):
        fields |= {
            f"sku_{number}": shortage.sku,
            f"requested_{number}": str(shortage.requested),
            f"sellable_{number}": str(shortage.sellable),
        }
    return fields
