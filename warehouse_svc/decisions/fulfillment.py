"""Reports of the fulfilment service about committed units: shipped, back on the shelf, not found,
damaged.

Quantities are targets, so that a repeat moves no unit. The quantity of a picklist's line never
rises: a replacement takes the place of its spoiled unit. So all units that are committed beyond the
smallest reported picklist go back on the shelf, in any order of the reports. Units that were never
on a picklist go back as well.
"""

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import Deferred, NotFound, Refused, Violation
from warehouse_svc.decisions.posting import Decided, StockPosting
from warehouse_svc.decisions.reservations import reservations_of
from warehouse_svc.lifecycle import MovementKind, Status
from warehouse_svc.model.commands import ApplyFulfillment, ReplaceSpoiled, ShippedAfterVoid
from warehouse_svc.model.records import OrderStock, Reservation, ReservationLine

LINE_MAX = 1_000_000  # units
NOT_COMMITTED = frozenset({Status.ACTIVE, Status.EXPIRED, Status.RELEASED})


def apply_fulfillment(record: OrderStock, command: ApplyFulfillment, context: Context) -> Decided:
    """Applies one warehouse's picklist. Raises Deferred EVENT_AHEAD until the units are committed.

    Where the units were released instead, a picklist changes nothing: the attempt's closing frees
    them. Raises Refused RESERVATION_CLOSED where released units are reported as shipped.
    """
    if not command.shipped and committed_elsewhere(record, command):
        return Decision(record)
    reservation = reservation_at(record, command, context)
    if reservation.status in NOT_COMMITTED:
        failure = not_committed(record, reservation)
        if isinstance(failure, Deferred) or command.shipped:
            raise failure
        return Decision(record)
    posting = StockPosting(record, command, context)
    for reported in command.lines:
        move_up_to(posting, reservation, reported.number, MovementKind.SHORT, reported.short)
        move_up_to(
            posting, reservation, reported.number, MovementKind.SPOIL_COMMITTED, reported.spoiled
        )
    remaining = {reported.number: reported.quantity for reported in command.lines}
    for line in posting.current(reservation).lines:
        if (units := min(line.allocated - remaining.get(line.number, 0), line.committed)) > 0:
            posting.move_units(reservation, line.number, MovementKind.UNCOMMIT, units)
    for number in remaining if command.shipped else ():
        move_up_to(posting, reservation, number, MovementKind.SHIP, remaining[number])
    if command.shipped_after_void:
        ship_shelf(posting, reservation, command.shipped_after_void)
    return posting.decision()


def ship_shelf(posting: StockPosting, reservation: Reservation, shipped: ShippedAfterVoid) -> None:
    """Posts the units that left with a voided label as shipped from the shelf, all or none.

    Raises Refused SHELF_SHORTAGE where fewer are sellable.
    """
    short: list[Violation] = []
    for number, units in shipped.units.items():
        line = line_of(posting, reservation, number)
        place = (reservation.warehouse_id, line.sku)
        missing = units - posting.posted(shipped.source, number, MovementKind.SHIP_SHELF)
        if missing > (sellable := posting.level(place).sellable):
            short.append(
                Violation(line.sku, f"{missing} shipped, {sellable} sellable", "SHELF_SHORTAGE")
            )
        elif missing > 0:
            posting.move_outside(place, number, MovementKind.SHIP_SHELF, missing, shipped.source)
    if short:
        shortages = ", ".join(f"{each.subject}: {each.description}" for each in short)
        text = (
            f"A parcel left {reservation.warehouse_id} after its label was void: {shortages}."
            " Receive or free that stock, then replay the event."
        )
        raise Refused(
            "SHELF_SHORTAGE",
            text,
            violations=short,
            warehouse_id=reservation.warehouse_id,
            shipment_id=str(shipped.source),
        )


def replace_spoiled(record: OrderStock, command: ReplaceSpoiled, context: Context) -> Decided:
    """Posts units as damaged, and commits sellable units of the same warehouse in their place.

    For a closed attempt it commits none.
    """
    reservation = reservation_at(record, command, context)
    if reservation.status in NOT_COMMITTED:
        raise not_committed(record, reservation)
    posting = StockPosting(record, command, context)
    for reported in command.lines:
        move_up_to(posting, reservation, reported.number, MovementKind.SHORT, reported.short)
        spoiled = move_up_to(
            posting, reservation, reported.number, MovementKind.SPOIL_COMMITTED, reported.spoiled
        )
        line = line_of(posting, reservation, reported.number)
        sellable = posting.level((reservation.warehouse_id, line.sku)).sellable
        units = (
            min(spoiled, sellable, LINE_MAX - line.quantity)
            if command.attempt > record.existing_reservations.closed_attempt
            else 0
        )
        if units > 0:
            posting.add_units(reservation, line.number, units)
    return posting.decision()


# --- shared by the deciders


def committed_elsewhere(record: OrderStock, command: ApplyFulfillment) -> bool:
    """Returns whether the warehouse's units expired and others committed units in their place."""
    order_reservations, reservations = reservations_of(record, command.attempt)
    of_attempt = {
        reservation.warehouse_id
        for reservation in order_reservations.reservations
        if reservation.attempt == command.attempt
    }
    current = {reservation.warehouse_id for reservation in reservations}
    settled = all(
        reservation.status not in (Status.ACTIVE, Status.EXPIRED) for reservation in reservations
    )
    return settled and command.warehouse_id in of_attempt - current


def reservation_at(
    record: OrderStock, command: ApplyFulfillment | ReplaceSpoiled, context: Context
) -> Reservation:
    """Returns the attempt's reservation in the warehouse.

    Raises NotFound RESERVATION_NOT_FOUND where there is none.
    """
    for reservation in reservations_of(record, command.attempt)[1]:
        if reservation.warehouse_id == command.warehouse_id:
            return reservation
    text = (
        f"Attempt {command.attempt} of order {context.target} has no reservation in"
        f" {command.warehouse_id}."
    )
    raise NotFound("RESERVATION_NOT_FOUND", text, warehouse_id=command.warehouse_id)


def not_committed(record: OrderStock, reservation: Reservation) -> Deferred | Refused:
    """Returns the failure to move units that are not committed.

    It is Deferred where they may still be committed, else Refused.
    """
    if (
        reservation.status is Status.RELEASED
        or reservation.attempt <= record.existing_reservations.closed_attempt
    ):
        text = f"Reservation {reservation.id} was released before it was committed."
        return Refused(
            "RESERVATION_CLOSED",
            text,
            reservation_id=str(reservation.id),
            status=reservation.status,
        )
    text = f"The units of reservation {reservation.id} are not committed yet."
    return Deferred(
        "EVENT_AHEAD", text, reservation_id=str(reservation.id), status=reservation.status
    )


def move_up_to(
    posting: StockPosting, reservation: Reservation, number: int, kind: MovementKind, target: int
) -> int:
    """Moves units of a line until `target` have made this movement. Returns how many it moved.

    Raises Refused STOCK_BELOW_RESERVED where the line has fewer.
    """
    if target == 0:
        return 0
    missing = target - line_of(posting, reservation, number).cumulative(kind)
    if missing > 0:
        posting.move_units(reservation, number, kind, missing)
    return max(missing, 0)


def line_of(posting: StockPosting, reservation: Reservation, number: int) -> ReservationLine:
    """Returns the reservation's line with the movements so far.

    Raises Refused STOCK_BELOW_RESERVED where there is none.
    """
    for line in posting.current(reservation).lines:
        if line.number == number:
            return line
    text = f"Reservation {reservation.id} has no line {number}."
    raise Refused(
        "STOCK_BELOW_RESERVED", text, reservation_id=str(reservation.id), line_number=str(number)
    )
