"""Whole shipments, for a write: their workspace, lock and load for a set of commands, and their
save.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.envelope import Envelope
from chassis.write.rows import column_arrays, row_arrays
from chassis.write.workspace import Workspace
from shipping_svc.lifecycle import LIVE, Status
from shipping_svc.model.commands import CreateShipment, RecordLabel, RecordReport
from shipping_svc.model.records import (
    BoughtLabel,
    RecallClosed,
    RecallOpened,
    Row,
    Shipment,
    ShipmentRequest,
    TrackingEvent,
    Transition,
)
from shipping_svc.store.labels import (
    delete_label_tries,
    find_number_holders,
    insert_labels,
    insert_tries,
)
from shipping_svc.store.recalls import delete_recalls, recall_row, upsert_recalls
from shipping_svc.store.reports import (
    TRACKING_COLUMNS,
    TRACKING_EVENT,
    insert_tracking,
    load_recorded_reports,
)
from shipping_svc.store.shipments import (
    MUTABLE_COLUMNS,
    PARCEL,
    SHIPMENT,
    TRANSITION,
    delete_parcels,
    insert_history,
    insert_parcels,
    insert_shipments,
    lock_by_fulfillment,
    lock_by_id,
    update_shipments,
    with_parcels,
)


class ShipmentWorkspace(Workspace[Shipment]):
    """The shipments of a set, by id, and their natural keys as the commands so far have left them.

    A fulfilment has one shipment at a time, and a tracking number one live shipment of a carrier.
    `requests` has the request of each CreateShipment, by the id that it proposes: this id names the
    latest shipment of the fulfilment, unless the request needs another one. `sold` has the tracking
    numbers that were sold for each target, and `holders` the live shipments with these numbers, by
    carrier and number.
    """

    def __init__(
        self,
        shipments: Mapping[UUID, Shipment],
        *,
        requests: Mapping[UUID, ShipmentRequest],
        sold: Mapping[UUID, Collection[str]],
        holders: Mapping[tuple[str, str], UUID],
    ) -> None:
        super().__init__(shipments)
        self._requests, self._sold, self._holders = requests, sold, dict(holders)
        by_age = sorted(shipments.values(), key=attrgetter("create_time", "id"))
        self._latest = {shipment.fulfillment_id: shipment.id for shipment in by_age}

    def get(self, target: UUID) -> Shipment | None:
        """Returns the target's shipment, with the other holders of the numbers sold for it."""
        shipment = super().get(self._named(target))
        if shipment is None or target not in self._sold:
            return shipment
        found = {n: self._holders.get((shipment.carrier, n)) for n in self._sold[target]}
        others = {n: holder for n, holder in found.items() if holder and holder != shipment.id}
        return replace(shipment, tracking_number_holders=others) if others else shipment

    def put(self, target: UUID, record: Shipment) -> None:
        if super().get(record.id) is None:
            self._latest[record.fulfillment_id] = record.id
        super().put(record.id, replace(record, tracking_number_holders={}))
        if record.tracking_number:
            number = record.carrier, record.tracking_number
            if record.status in LIVE:
                self._holders[number] = record.id
            elif self._holders.get(number) == record.id:
                del self._holders[number]

    def get_repeated(self, stored: UUID, proposed: UUID) -> Shipment:
        """Returns a repeat's shipment: the fulfilment's latest, where the first try found one."""
        request = self._requests.get(proposed)
        latest = self._latest.get(request.fulfillment_id) if request else None
        return super().get_repeated(stored, latest or proposed)

    def _named(self, target: UUID) -> UUID:
        """Returns the id of the shipment that the target names."""
        request = self._requests.get(target)
        if request is None or super().get(target):
            return target
        latest = super().get(self._latest.get(request.fulfillment_id, target))
        return target if latest is None or latest.is_followed_by(request) else latest.id


async def lock_shipments(
    connection: AsyncConnection, envelopes: Sequence[Envelope[Any]], repeats: Collection[UUID]
) -> ShipmentWorkspace:
    """Returns the shipments of the commands, and locks them.

    They are the targets, and of the fulfilments of CreateShipment commands all shipments.
    """
    commands = [(each.target, each.command) for each in envelopes]
    parameters = column_arrays(id={*repeats, *(target for target, _ in commands)})
    requests = {
        target: command.request
        for target, command in commands
        if isinstance(command, CreateShipment)
    }
    if requests:
        parameters |= column_arrays(
            fulfillment_id=[request.fulfillment_id for request in requests.values()]
        )
    found = {
        s.id: s
        for s in await with_parcels(
            connection, lock_by_fulfillment if requests else lock_by_id, parameters
        )
    }
    if reports := [
        (target, command.report.carrier_event_id)
        for target, command in commands
        if isinstance(command, RecordReport)
    ]:
        await load_recorded_reports(connection, found, reports)
    sold = defaultdict[UUID, set[str]](set)
    for target, command in commands:
        if isinstance(command, RecordLabel):
            sold[target].add(command.label.tracking_number)
    numbers = set(chain.from_iterable(sold.values()))
    holders = await find_number_holders(connection, numbers) if numbers else {}
    return ShipmentWorkspace(found, requests=requests, sold=sold, holders=holders)


async def save_shipments(
    connection: AsyncConnection,
    before: Mapping[UUID, Shipment],
    after: Mapping[UUID, Shipment],
    rows: Sequence[Row],
) -> None:
    """Stores the new and the changed shipments, and their rows.

    It inserts new shipments in the order of their business key. So two sets with the same keys
    cannot deadlock.
    """
    created = sorted(
        (s for id, s in after.items() if id not in before), key=attrgetter("fulfillment_id")
    )
    changed = [s for id, s in after.items() if id in before]
    no_longer_pending = [
        s.id
        for id, s in after.items()
        if id in before and before[id].status is Status.PENDING is not s.status
    ]
    # The ended ones first: their fulfilment and their tracking number may have another one now.
    for several in (
        [s for s in changed if s.status not in LIVE],
        [s for s in changed if s.status in LIVE],
    ):
        if several:
            await connection.execute(update_shipments, SHIPMENT.arrays(several, MUTABLE_COLUMNS))
    if created:
        await connection.execute(insert_shipments, SHIPMENT.arrays(created))
    if pending := [s for s in created if s.status is Status.PENDING]:
        tries = [{"shipment_id": s.id, "tries": 1, "try_time": s.create_time} for s in pending]
        await connection.execute(insert_tries, row_arrays(tries))
    await _save_parcels(
        connection, created, [s for s in changed if s.parcels != before[s.id].parcels]
    )
    if no_longer_pending:
        await connection.execute(delete_label_tries, column_arrays(shipment_id=no_longer_pending))
    await _save_rows(connection, rows)


async def _save_parcels(
    connection: AsyncConnection, created: Sequence[Shipment], repacked: Sequence[Shipment]
) -> None:
    """Stores the parcels of new shipments, and replaces those of repacked ones."""
    if repacked:
        await connection.execute(
            delete_parcels, column_arrays(shipment_id=[s.id for s in repacked])
        )
    rows = [
        PARCEL.row(parcel, shipment_id=s.id, number=number)
        for s in (*created, *repacked)
        for number, parcel in enumerate(s.parcels, 1)
    ]
    if rows:
        await connection.execute(insert_parcels, row_arrays(rows))


async def _save_rows(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    """Stores the decisions' rows: history, labels, reports and recalls."""
    if transitions := [row for row in rows if isinstance(row, Transition)]:
        await connection.execute(insert_history, TRANSITION.arrays(transitions))
    if bought := [row for row in rows if isinstance(row, BoughtLabel)]:
        await connection.execute(
            insert_labels,
            column_arrays(
                shipment_id=[each.shipment_id for each in bought],
                content=[each.label.content for each in bought],
                content_type=[each.label.content_type for each in bought],
            ),
        )
    if reported := [row for row in rows if isinstance(row, TrackingEvent)]:
        await connection.execute(insert_tracking, TRACKING_EVENT.arrays(reported, TRACKING_COLUMNS))
    for several in _recalls_in_order(rows):
        if opened := [row for row in several if isinstance(row, RecallOpened)]:
            await connection.execute(upsert_recalls, row_arrays(list(map(recall_row, opened))))
        if closed := [row for row in several if isinstance(row, RecallClosed)]:
            await connection.execute(delete_recalls, row_arrays(list(map(asdict, closed))))


def _recalls_in_order(rows: Sequence[Row]) -> list[list[RecallOpened | RecallClosed]]:
    """Returns the rows of recalls in lists that are stored one after the other.

    A list has one row of a recall at most: a set may close a recall and open it again.
    """
    lists: list[list[RecallOpened | RecallClosed]] = []
    stored = Counter[tuple[UUID, int]]()
    for row in rows:
        if isinstance(row, RecallOpened | RecallClosed):
            place = stored[row.shipment_id, row.purchase]
            stored[row.shipment_id, row.purchase] += 1
            lists += [[]] if place == len(lists) else []
            lists[place].append(row)
    return lists
