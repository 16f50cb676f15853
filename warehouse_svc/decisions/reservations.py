"""What is done to reservations by checkouts, by the order's life and by the clock. All of an
attempt's reservations move together.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import NotFound, Refused, Violation
from warehouse_svc.decisions.books import Books, Decided
from warehouse_svc.decisions.sourcing import Shortage, demand, shortages, source
from warehouse_svc.lifecycle import MovementKind, Reason, Status
from warehouse_svc.model import (
    ConfirmReservations,
    EndAttempt,
    ExpireReservations,
    Holding,
    KeepUnits,
    ReleaseReservations,
    RenewReservations,
    Reservation,
    ReservationChanged,
    ReserveStock,
    View,
    WantedLine,
)

# A repeat that finds more than this share of its time left changes nothing. What is left has to do
# for an order that is placed only now.
FRESH = 0.9
# An order's events name each line at each of its warehouses, so this bounds their size, and with it
# what the broker must take (chassis.values.event_subjects.MESSAGE_BYTES_MAX).
WAREHOUSES_MAX = 8
SHORTAGES_IN_METADATA = 10  # a status must stay small, whatever a SKU is called


def reserve(view: View, command: ReserveStock, context: Context) -> Decided:
    """All lines or none. What the attempt had before may only have expired."""
    holding = view.holding or Holding(context.target)
    standing = holding.of(command.attempt)
    refuse_dead(holding, command.attempt)
    if live := [r for r in standing if not r.lapsed(context.time)]:
        text = (
            f"Attempt {command.attempt} of order {context.target} has reservations of another"
            " request."
        )
        raise Refused(
            "RESERVATION_CLOSED", text, order_id=str(context.target), status=live[0].status
        )
    books = Books(view, command, context)
    for reservation in standing:
        books.move_all(reservation, MovementKind.EXPIRE)
    set_aside(books, command.attempt, command.lines, standing, context.time + command.ttl)
    return books.decision(context.target)


def renew(view: View, command: RenewReservations, context: Context) -> Decided:
    """Makes anew what has expired, and prolongs what is still reserved; whatever else has become
    of the attempt stands.
    """
    holding = view.holding
    standing = holding.of(command.attempt) if holding else ()
    if (
        not holding
        or command.attempt <= holding.closed_attempt
        or not due_for_renewal(standing, command.ttl, context.time)
    ):
        return Decision(view)
    if not all(r.lapsed(context.time) for r in standing):
        return prolonged(view, holding, standing, command, context.time)
    books = Books(view, command, context)
    for reservation in standing:
        books.move_all(reservation, MovementKind.EXPIRE)
    standing = tuple(map(books.current, standing))
    set_aside(books, command.attempt, expired_units(standing), standing, context.time + command.ttl)
    return books.decision()


def due_for_renewal(standing: Sequence[Reservation], ttl: timedelta, now: datetime) -> bool:
    """Whether a request for so much time, come again, finds too little of it left: its order
    decides first, and may be placed only now.
    """
    if not standing or all(r.lapsed(now) for r in standing):
        return bool(standing)
    return any(r.status is Status.ACTIVE and r.expire_time - now < ttl * FRESH for r in standing)


def prolonged(
    view: View,
    holding: Holding,
    standing: Sequence[Reservation],
    command: RenewReservations,
    now: datetime,
) -> Decided:
    """What is still reserved stays so for the command's time.

    No unit moves, and no status changes: so no event is published.
    """
    active = {r.id for r in standing if r.status is Status.ACTIVE}
    reservations = tuple(
        replace(each, expire_time=now + command.ttl, version=each.version + 1, update_time=now)
        if each.id in active
        else each
        for each in holding.reservations
    )
    after = replace(holding, version=holding.version + 1, reservations=reservations)
    return Decision(replace(view, holding=after))


def confirm(view: View, command: ConfirmReservations, context: Context) -> Decided:
    """Commits all that the attempt has reserved, past its time as well; what has expired only if
    the units are still sellable.

    On the event path nobody waits for a refusal: it becomes a fact, unless the attempt is dead,
    which its order knows.
    """
    if command.by_event and view.holding and command.attempt <= view.holding.closed_attempt:
        return Decision(view)
    holding, standing = held(view, command.attempt)
    if not command.by_event:
        return commit(view, command, standing, context)
    try:
        return commit(view, command, standing, context)
    except Refused as refusal:
        told = replace(holding, version=holding.version + 1)
        fact = ReservationChanged(
            reservation=standing[0],
            old_status=standing[0].status,
            standing=standing,
            holding_version=told.version,
            time=context.time,
            reason=Reason.CONFIRM_REFUSED,
            actor=context.actor,
            cause=context.cause,
            claimed_actor=context.claimed_actor,
            refused=refusal.reason,
        )
        return Decision(replace(view, holding=told), facts=[fact])


def commit(
    view: View,
    command: ConfirmReservations,
    standing: Sequence[Reservation],
    context: Context,
) -> Decided:
    """What `confirm` does, or the Refused that says why not."""
    assert view.holding
    refuse_dead(view.holding, command.attempt)
    statuses = {r.status for r in standing}
    books = Books(view, command, context)
    if Status.ACTIVE in statuses:
        for reservation in standing:
            books.move_all(reservation, MovementKind.CONFIRM)
    elif statuses == {Status.RELEASED}:
        text = f"The units of attempt {command.attempt} of order {context.target} were released."
        raise Refused(
            "RESERVATION_CLOSED", text, order_id=str(context.target), status=Status.RELEASED
        )
    elif Status.EXPIRED in statuses:
        for new in replaced(books, command.attempt, standing, context.time):
            books.move_all(new, MovementKind.CONFIRM)
    return books.decision()


def release(view: View, command: ReleaseReservations, context: Context) -> Decided:
    """Gives up what is still reserved, of all lines or up to the given units of some. Committed
    units wait for fulfilment's report.
    """
    _, standing = held(view, command.attempt)
    books = Books(view, command, context)
    for reservation in standing if not command.released else ():
        books.move_all(reservation, MovementKind.RELEASE)
    for number, target in command.released.items():
        release_line(books, standing, number, target)
    return books.decision()


def release_line(books: Books, standing: Sequence[Reservation], number: int, target: int) -> None:
    """Gives up units of one line until `target` are released, those first that were sourced
    last.
    """
    parts = [(r, line) for r in reversed(standing) for line in r.lines if line.number == number]
    missing = target - sum(line.released for _, line in parts)
    if missing > sum(line.reserved + line.committed for _, line in parts):
        text = f"Line {number} has fewer than {target} units that are, or could be, released."
        raise Refused("QUANTITY_OUT_OF_RANGE", text, line_number=str(number))
    for reservation, line in parts:
        if units := min(max(missing, 0), line.reserved):
            books.move_units(reservation, number, MovementKind.RELEASE, units)
            missing -= units


def expire(view: View, command: ExpireReservations, context: Context) -> Decided:
    """Takes back what is reserved past its time, whatever attempt it is for."""
    books = Books(view, command, context)
    for reservation in view.holding.reservations if view.holding else ():
        if reservation.lapsed(context.time):
            books.move_all(reservation, MovementKind.EXPIRE)
    return books.decision()


def end(view: View, command: EndAttempt, context: Context) -> Decided:
    """The attempt is dead, and with it those before: nothing of them is confirmed from now on, and
    what they have reserved is free.

    Committed units come back at once where the attempt died while it was pending; else when
    fulfilment reports them. Of an order of which nothing is held (yet) the death is remembered
    where the order itself told it. Raises NotFound RESERVATION_NOT_FOUND where another service did:
    it may tell of an order that there is not.
    """
    if not command.by_order and view.holding is None:
        raise unreserved(command.attempt)
    books = Books(view, command, context)
    for reservation in view.holding.reservations if view.holding else ():
        if reservation.attempt <= command.attempt:
            books.move_all(reservation, MovementKind.RELEASE)
        if reservation.attempt == command.attempt and command.while_pending:
            books.move_all(reservation, MovementKind.UNCOMMIT)
    return books.decision(context.target, closed_attempt=command.attempt)


def keep(view: View, command: KeepUnits, context: Context) -> Decided:
    """The order gives up units that are not among the kept ones: of those that are still reserved,
    at once. Committed units wait for fulfilment's report, unless the order was pending when they
    went: those it never puts on a picklist (the commit raced the cancellation).

    Where the order names another reservation than those that stand, it does not know yet where its
    units are, and nothing is concluded.
    """
    _, standing = held(view, command.attempt)
    books = Books(view, command, context)
    if not {id for id, _ in command.kept} <= {r.id for r in standing}:
        return books.decision()
    for reservation, line in [(r, line) for r in standing for line in r.lines]:
        excess = max(line.live - command.kept.get((reservation.id, line.number), 0), 0)
        freed = min(excess, line.reserved)
        back = min(excess - freed, line.committed) if command.while_pending else 0
        for kind, units in ((MovementKind.RELEASE, freed), (MovementKind.UNCOMMIT, back)):
            if units:
                books.move_units(reservation, line.number, kind, units)
    return books.decision()


# --- what the verbs share


def held(view: View, attempt: int) -> tuple[Holding, tuple[Reservation, ...]]:
    """The order's holding and what stands for the attempt. Raises NotFound RESERVATION_NOT_FOUND
    where nothing does.
    """
    if view.holding is None or not (standing := view.holding.of(attempt)):
        raise unreserved(attempt)
    return view.holding, standing


def unreserved(attempt: int) -> NotFound:
    """The refusal of what needs a reservation, where there is none (yet)."""
    return NotFound(
        "RESERVATION_NOT_FOUND",
        f"Nothing was reserved for attempt {attempt} of this order.",
        attempt=str(attempt),
    )


def refuse_dead(holding: Holding, attempt: int) -> None:
    """Refused RESERVATION_CLOSED for an attempt that is dead."""
    if attempt <= holding.closed_attempt:
        text = f"Attempt {attempt} of order {holding.order_id} is dead."
        raise Refused(
            "RESERVATION_CLOSED", text, order_id=str(holding.order_id), status="order_ended"
        )


def replaced(
    books: Books, attempt: int, standing: Sequence[Reservation], now: datetime
) -> list[Reservation]:
    """New reservations for expired ones. Refused RESERVATION_EXPIRED where the units are sold."""
    lines = expired_units(standing)
    if short := shortages(lines, books.sellable()):
        text = f"The reservations of attempt {attempt} have expired, and their units are sold."
        raise Refused(
            "RESERVATION_EXPIRED",
            text,
            violations=violations(short, "RESERVATION_EXPIRED"),
            **metadata(short),
        )
    return set_aside(books, attempt, lines, standing, now)


def set_aside(
    books: Books,
    attempt: int,
    lines: Sequence[WantedLine],
    before: Sequence[Reservation],
    expire_time: datetime,
) -> list[Reservation]:
    """The next generation of reservations. Refused INSUFFICIENT_STOCK, with each SKU that is short,
    where there is not enough.

    Refused TOO_MANY_WAREHOUSES where the units lie in more than WAREHOUSES_MAX.
    """
    sellable = books.sellable()
    if short := shortages(lines, sellable):
        text = f"There is not enough stock of {len(short)} of {len(demand(lines))} SKUs."
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
            f"The units lie in {len(by_warehouse)} warehouses, and an order is served from "
            f"{WAREHOUSES_MAX} at most. Place several smaller orders."
        )
        raise Refused(
            "TOO_MANY_WAREHOUSES",
            text,
            warehouses=str(len(by_warehouse)),
            warehouses_max=str(WAREHOUSES_MAX),
        )
    return [
        books.reserve(attempt, generation, warehouse_id, parts, expire_time)
        for warehouse_id, parts in by_warehouse.items()
    ]


def expired_units(reservations: Sequence[Reservation]) -> list[WantedLine]:
    """What the reservations have lost to the clock, by order line."""
    units: dict[int, WantedLine] = {}
    for line in (line for r in reservations for line in r.lines if line.expired):
        known = units.get(line.number)
        units[line.number] = WantedLine(
            line.number, line.sku, line.expired + (known.quantity if known else 0)
        )
    return [units[number] for number in sorted(units)]


def violations(short: Sequence[Shortage], kind: str) -> list[Violation]:
    return [Violation(s.sku, f"asked {s.asked}, left {s.left}", kind) for s in short]


def metadata(short: Sequence[Shortage]) -> dict[str, str]:
    """The first shortages for programs: sku_1, asked_1, left_1 and so on; `shortages` says how
    many there are.
    """
    named = {"shortages": str(len(short))}
    for number, shortage in enumerate(short[:SHORTAGES_IN_METADATA], 1):
        named |= {
            f"sku_{number}": shortage.sku,
            f"asked_{number}": str(shortage.asked),
            f"left_{number}": str(shortage.left),
        }
    return named
