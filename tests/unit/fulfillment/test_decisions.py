"""The decisions about a fulfilment, by tables: every command in every status, and each rule of
picking, packing and inspection.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import Deferred, Failure, Invalid, NotFound, Refused, Stale
from fulfillment_svc.decisions.deciders import decide
from fulfillment_svc.lifecycle import InspectionRule, Status
from fulfillment_svc.model.commands import (
    Complete,
    CompletePicking,
    Pack,
    RecordInspection,
    Scan,
    ScanItems,
    Ship,
    StartPacking,
    StartPicking,
)
from fulfillment_svc.model.events import StatusChanged
from fulfillment_svc.model.records import Fulfillment, Package, PackedItem
from fulfillment_svc.wire.responses import fulfillment
from tests.unit.fulfillment.samples import (
    ID,
    LINES,
    NOW,
    SHIPMENT,
    done,
    envelope,
    fulfillment_in,
    order_fulfillments,
    pack_all,
    parcel,
    picking_line,
    plan,
    scan_all,
)
from tests.unit.fulfillment.samples import decide_one as decided

FULL = tuple(replace(line, picked=line.quantity) for line in LINES)

# Each command with its statuses before and after. In every other status a request is refused, and
# an event waits or is skipped.
VERBS: dict[str, tuple[Callable[[], Envelope[Any]], dict[Status, Status]]] = {
    "start picking": (lambda: envelope(StartPicking), {Status.PLANNING: Status.PICKING}),
    "scan": (
        lambda: envelope(ScanItems, scans=(Scan("mug", 1),)),
        {Status.PICKING: Status.PICKING},
    ),
    "complete picking": (lambda: envelope(CompletePicking), {Status.PICKING: Status.PICKED}),
    "start packing": (lambda: envelope(StartPacking), {Status.PICKED: Status.PACKING}),
    "pack": (lambda: pack_all(LINES), {Status.PACKING: Status.PACKED}),
    "pass": (
        lambda: envelope(RecordInspection, passed=True, note=""),
        {Status.PACKED: Status.READY},
    ),
    "fail": (
        lambda: envelope(RecordInspection, passed=False, note="cracked"),
        {Status.PACKED: Status.PICKING},
    ),
}


def refused(fulfillment: Fulfillment | None, what: Envelope[Any]) -> Failure:
    """Returns the failure that the decision raises."""
    with pytest.raises(Failure) as caught:
        decide(order_fulfillments(fulfillment) if fulfillment else None, what, NOW)
    return caught.value


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("verb", VERBS)
def test_every_command_in_every_status(verb: str, status: Status) -> None:
    """A request makes its one move, and is refused in every other status with the status and the
    allowed ones.
    """
    make, edges = VERBS[verb]
    fulfillment = fulfillment_in(
        status, FULL if verb == "complete picking" else LINES, rule=InspectionRule.SKU
    )
    if status in edges:
        assert decided(fulfillment, make(), NOW).record.status is edges[status]
    else:
        failure = refused(fulfillment, make())
        assert (type(failure), failure.reason, failure.metadata["status"]) == (
            Refused,
            "ILLEGAL_TRANSITION",
            status,
        )
        assert "allowed" in failure.metadata


def test_refusal_lists_the_allowed_statuses() -> None:
    """ILLEGAL_TRANSITION lists the statuses that may follow."""
    failure = refused(fulfillment_in(Status.PACKED), envelope(StartPicking))
    assert failure.metadata["allowed"] == "cancelled, packing, picking, ready"


@pytest.mark.parametrize("verb", VERBS)
def test_request_about_unknown_fulfilment_is_not_found(verb: str) -> None:
    """Without a fulfilment every request is NOT_FOUND."""
    failure = refused(None, VERBS[verb][0]())
    assert (type(failure), failure.reason, failure.metadata) == (
        NotFound,
        "FULFILLMENT_NOT_FOUND",
        {"fulfillment_id": str(ID)},
    )


@pytest.mark.parametrize(
    "event",
    [
        envelope(Ship, shipment_id=SHIPMENT, fulfillment_version=7),
        envelope(Complete, shipment_id=SHIPMENT, fulfillment_version=7),
    ],
)
def test_shipment_of_unknown_fulfilment_waits(event: Envelope[Any]) -> None:
    """An event about an unknown fulfilment is NotFound, which the inbox defers."""
    assert isinstance(refused(None, event), NotFound)


def test_stale_version_is_refused_first() -> None:
    """expected_version is compared first; the right one passes."""
    failure = refused(fulfillment_in(Status.PLANNING), envelope(StartPicking, expected_version=1))
    assert (type(failure), failure.reason, failure.metadata) == (
        Stale,
        "VERSION_MISMATCH",
        {"expected": "1", "actual": "2"},
    )
    asked = envelope(StartPicking, expected_version=2)
    assert decided(fulfillment_in(Status.PLANNING), asked, NOW).record.version == 3


@pytest.mark.parametrize(
    ("scans", "picked"),
    [
        ([("mug", 1)], (1, 0, 0)),
        ([("mug", 2)], (2, 0, 0)),
        ([("mug", 4)], (2, 0, 2)),
        ([("mug", 1), ("Lamp, blue", 1), ("mug", 2)], (2, 1, 1)),
        ([("mug", 5), ("Lamp, blue", 1)], (2, 1, 3)),
    ],
)
def test_scan_fills_the_lowest_open_line(
    scans: list[tuple[str, int]], picked: tuple[int, ...]
) -> None:
    """Scans of a SKU on several lines fill the lines by number; every scan of a request counts."""
    decision = decided(
        fulfillment_in(Status.PICKING),
        envelope(ScanItems, scans=tuple(Scan(*scan) for scan in scans)),
        NOW,
    )
    assert tuple(line.picked for line in decision.record.lines) == picked
    version = fulfillment_in(Status.PICKING).version + 1
    assert (decision.record.version, decision.events) == (version, ())
    rows = [(row.version, row.old, row.new, row.reason) for row in decision.history]
    assert rows == [(version, Status.PICKING, Status.PICKING, "UNITS_SCANNED")]


@pytest.mark.parametrize(("version", "published"), [(4998, 0), (4999, 1), (5000, 0), (9999, 1)])
def test_every_5000th_scan_is_published(version: int, published: int) -> None:
    """Consumers refuse a version 10,000 above the last stored one, so each 5,000th is published."""
    here = replace(fulfillment_in(Status.PICKING), version=version)
    decision = decided(here, envelope(ScanItems, scans=(Scan("mug", 1),)), NOW)
    assert [type(event).__name__ for event in decision.events] == ["LinesChanged"] * published


@pytest.mark.parametrize(
    ("scans", "kind", "reason", "metadata"),
    [
        ([("cup", 1)], Invalid, "SKU_NOT_ON_PICKLIST", {"sku": "cup"}),
        ([("MUG", 1)], Invalid, "SKU_NOT_ON_PICKLIST", {"sku": "MUG"}),
        (
            [("mug", 6)],
            Refused,
            "QUANTITY_EXCEEDS_PICKLIST",
            {"sku": "mug", "quantity": "5", "picked": "0"},
        ),
        (
            [("mug", 5), ("mug", 1)],
            Refused,
            "QUANTITY_EXCEEDS_PICKLIST",
            {"sku": "mug", "quantity": "5", "picked": "5"},
        ),
        ([("Lamp, blue", 1), ("cup", 1)], Invalid, "SKU_NOT_ON_PICKLIST", {"sku": "cup"}),
    ],
)
def test_wrong_scans_are_refused(
    scans: list[tuple[str, int]], kind: type[Failure], reason: str, metadata: dict[str, str]
) -> None:
    """A wrong SKU, or one unit too many, refuses the whole request."""
    asked = envelope(ScanItems, scans=tuple(Scan(*scan) for scan in scans))
    failure = refused(fulfillment_in(Status.PICKING), asked)
    assert (type(failure), failure.reason, failure.metadata) == (kind, reason, metadata)


def test_picking_completes_when_every_line_is_scanned() -> None:
    """PICKING_INCOMPLETE names each open line; a completely scanned picklist is picked."""
    picking, _ = done(
        fulfillment_in(Status.PICKING), [envelope(ScanItems, scans=(Scan("mug", 3),))]
    )
    failure = refused(picking, envelope(CompletePicking))
    assert (failure.reason, [v.subject for v in failure.violations]) == (
        "PICKING_INCOMPLETE",
        ["line 2", "line 4"],
    )
    record, _ = done(picking, [scan_all(picking.lines), envelope(CompletePicking)])
    assert record.status is Status.PICKED


@pytest.mark.parametrize(
    ("packed", "wrong"),
    [
        ([(1, 2), (2, 1)], ["line 4"]),
        ([(1, 2), (2, 1), (4, 4)], ["line 4"]),
        ([(1, 1), (2, 2), (4, 3)], ["line 1", "line 2"]),
        ([(1, 2), (2, 1), (4, 3), (3, 1)], ["line 3"]),
    ],
)
def test_packages_hold_exactly_the_picked_units(
    packed: list[tuple[int, int]], wrong: list[str]
) -> None:
    """PACKAGES_INCOMPLETE names each line with too few units, with too many, or of another
    picklist.
    """
    box = Package(
        weight_grams=1,
        length_mm=1,
        width_mm=1,
        height_mm=1,
        items=tuple(PackedItem(*item) for item in packed),
    )
    failure = refused(fulfillment_in(Status.PACKING), envelope(Pack, packages=(box,)))
    assert (failure.reason, [v.subject for v in failure.violations]) == (
        "PACKAGES_INCOMPLETE",
        wrong,
    )


def test_packages_are_numbered_from_one() -> None:
    """A line may be in several packages. Their numbers follow the request's order."""
    boxes = (
        Package(
            weight_grams=1,
            length_mm=1,
            width_mm=1,
            height_mm=1,
            items=(PackedItem(1, 1), PackedItem(2, 1)),
        ),
        Package(
            weight_grams=1,
            length_mm=1,
            width_mm=1,
            height_mm=1,
            items=(PackedItem(1, 1), PackedItem(4, 3)),
        ),
    )
    record = decided(fulfillment_in(Status.PACKING), envelope(Pack, packages=boxes), NOW).record
    assert record.packages == boxes
    assert [package.package_number for package in fulfillment(record).packages] == [1, 2]


def test_without_inspection_packing_ends_in_ready() -> None:
    """One decision has two steps, packed and ready; the domain event of each shows the packages."""
    decision = decided(fulfillment_in(Status.PACKING), pack_all(LINES), NOW)
    assert [t.new for t in decision.history] == [Status.PACKED, Status.READY]
    assert [f.fulfillment.packages for f in decision.events if isinstance(f, StatusChanged)] == [
        (parcel(LINES),)
    ] * 2


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("passed", [True, False])
def test_inspection_without_a_rule_is_refused(status: Status, passed: bool) -> None:
    """Without a rule, an inspection is refused in every status."""
    failure = refused(fulfillment_in(status), envelope(RecordInspection, passed=passed, note=""))
    assert failure.reason == "INSPECTION_NOT_REQUIRED"


def test_failed_inspection_returns_to_picking() -> None:
    """The fulfilment is in picking without scans and packages. The history has the reason, and the
    packages are inspected again.
    """
    packed = fulfillment_in(Status.PACKED, rule=InspectionRule.SAMPLE)
    failed = decided(packed, envelope(RecordInspection, passed=False, note="cracked"), NOW)
    assert failed.record.status is Status.PICKING
    assert [line.picked for line in failed.record.lines] == [0, 0, 0]
    assert failed.record.packages == ()
    assert [(t.reason, t.note) for t in failed.history] == [("INSPECTION_FAILED", "cracked")]
    again, _ = done(
        failed.record,
        [scan_all(LINES), envelope(CompletePicking), envelope(StartPacking), pack_all(LINES)],
    )
    assert again.status is Status.PACKED


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("kind", [Ship, Complete])
def test_shipment_event_from_every_status(
    kind: type[Ship] | type[Complete], status: Status
) -> None:
    """From ready on, the event moves the fulfilment forward through missing statuses; late and
    repeated events are skipped. Before ready the event waits.
    """
    fulfillment = fulfillment_in(status)
    ahead = {
        (Ship, Status.READY): [Status.SHIPPED],
        (Complete, Status.READY): [Status.SHIPPED, Status.COMPLETED],
        (Complete, Status.SHIPPED): [Status.COMPLETED],
    }
    event = envelope(kind, shipment_id=SHIPMENT, fulfillment_version=7)
    if status in (Status.READY, Status.SHIPPED, Status.COMPLETED, Status.CANCELLED):
        decision = decided(fulfillment, event, NOW)
        assert [t.new for t in decision.history] == ahead.get((kind, status), [])
        assert decision.record is fulfillment or decision.record.shipment_id == SHIPMENT
    else:
        failure = refused(fulfillment, event)
        assert (type(failure), failure.reason) == (Deferred, "EVENT_AHEAD")


def test_whole_life_has_each_status_in_order() -> None:
    """From the confirmed order to the delivery there is each status once, and picking again for
    each scan.

    Versions have no gap.
    """
    commands: list[Envelope[Any]] = [
        plan((picking_line(1, "mug", 2),)),
        envelope(StartPicking),
        envelope(ScanItems, scans=(Scan("mug", 2),)),
        envelope(CompletePicking),
        envelope(StartPacking),
        envelope(
            Pack,
            packages=(
                Package(
                    weight_grams=1,
                    length_mm=1,
                    width_mm=1,
                    height_mm=1,
                    items=(PackedItem(1, 2),),
                ),
            ),
        ),
        envelope(Ship, shipment_id=SHIPMENT, fulfillment_version=7),
        envelope(Complete, shipment_id=SHIPMENT, fulfillment_version=7),
    ]
    _, decisions = done(None, commands)
    assert [(t.version, t.new) for d in decisions for t in d.history] == [
        (1, Status.PENDING),
        (2, Status.PLANNING),
        (3, Status.PICKING),
        (4, Status.PICKING),
        (5, Status.PICKED),
        (6, Status.PACKING),
        (7, Status.PACKED),
        (8, Status.READY),
        (9, Status.SHIPPED),
        (10, Status.COMPLETED),
    ]
