"""The service's methods over gRPC: a real server, a real database, and a client like any
caller's.
"""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from ordermesh.fulfillment.v1 import fulfillment_pb2 as pb
from ordermesh.fulfillment.v1 import fulfillment_service_pb2 as api
from ordermesh.view.v1.view_pb2 import VIEW_SUMMARY

from chassis.rpc.client import ask, pages
from chassis.values import paging
from chassis.values.errors import Failure, Invalid, NotFound, Refused, Stale
from chassis.values.money import Money
from fulfillment_svc.app import Operations
from tests.integration.fulfillment.events import Places, confirmed
from tests.integration.fulfillment.requests import Fulfillments, asking, pack, package, pick
from tests.support import room_for

EXPENSIVE = Money(5000_00, "GBP")
MUGS: Places = {"DOVER": [(1, "mug", 2), (2, "Lamp, blue", 1), (4, "mug", 3)]}


@pytest.fixture
async def planned(operations: Operations, fulfillments: Fulfillments) -> pb.Fulfillment:
    """Returns a fulfilment in planning, as its picker reads it."""
    await operations.orders.apply_order_events([confirmed(uuid4(), MUGS)])
    response = await ask(
        fulfillments.ListFulfillments,
        api.ListFulfillmentsRequest(statuses=[pb.FULFILLMENT_STATUS_PLANNING]),
    )
    return response.fulfillments[0]


async def test_fulfilment_goes_from_planning_to_ready(
    fulfillments: Fulfillments, planned: pb.Fulfillment
) -> None:
    """The fulfilment goes from planning to ready over gRPC; every answer shows its state at that
    moment.
    """
    assert planned.stock_committed
    assert [
        (line.line_number, line.sku, line.quantity, line.picked_quantity)
        for line in planned.picklist
    ] == [
        (1, "mug", 2, 0),
        (2, "Lamp, blue", 1, 0),
        (4, "mug", 3, 0),
    ]
    picked = await pick(fulfillments, planned)
    assert picked.status == pb.FULFILLMENT_STATUS_PICKED
    assert [line.picked_quantity for line in picked.picklist] == [2, 1, 3]
    ready = await pack(
        fulfillments, picked, [package((1, 1), (1, 1), (2, 1)), package((4, 3), weight_grams=900)]
    )
    assert ready.status == pb.FULFILLMENT_STATUS_READY
    assert [
        (p.package_number, p.weight_grams, [(i.line_number, i.quantity) for i in p.items])
        for p in ready.packages
    ] == [
        (1, 1200, [(1, 2), (2, 1)]),
        (2, 900, [(4, 3)]),
    ]
    assert not ready.inspection_required
    assert ready.inspection_rule == pb.INSPECTION_RULE_UNSPECIFIED
    assert not ready.HasField("shipment_id")
    assert ready.version == 8
    assert ready.create_time.ToDatetime() <= ready.update_time.ToDatetime()
    read = await ask(
        fulfillments.GetFulfillment,
        api.GetFulfillmentRequest(fulfillment_id=planned.fulfillment_id),
    )
    assert read.fulfillment == ready


async def test_failed_inspection_restarts_the_picking(
    fulfillments: Fulfillments, operations: Operations
) -> None:
    """The packages of an expensive order are inspected: one fails and starts again, the next passes
    and is ready.
    """
    await operations.orders.apply_order_events([confirmed(uuid4(), total=EXPENSIVE)])
    [fulfillment] = (
        await ask(fulfillments.ListFulfillments, api.ListFulfillmentsRequest())
    ).fulfillments
    assert (
        fulfillment.inspection_required,
        fulfillment.inspection_rule,
    ) == (True, pb.INSPECTION_RULE_ORDER_VALUE)
    packed = await pack(fulfillments, await pick(fulfillments, fulfillment))
    assert packed.status == pb.FULFILLMENT_STATUS_PACKED
    fulfillment_id = fulfillment.fulfillment_id
    failing = asking(api.RecordInspectionRequest, fulfillment_id, passed=False, note="cracked")
    failed = (await ask(fulfillments.RecordInspection, failing)).fulfillment
    assert (failed.status, len(failed.packages), failed.picklist[0].picked_quantity) == (
        pb.FULFILLMENT_STATUS_PICKING,
        0,
        0,
    )
    scans = [api.Scan(sku=line.sku, quantity=line.quantity) for line in failed.picklist]
    await ask(fulfillments.ScanItem, asking(api.ScanItemRequest, fulfillment_id, scans=scans))
    picked = await ask(
        fulfillments.CompletePicking, asking(api.CompletePickingRequest, fulfillment_id)
    )
    await pack(fulfillments, picked.fulfillment)
    passed = await ask(
        fulfillments.RecordInspection,
        asking(api.RecordInspectionRequest, fulfillment_id, passed=True),
    )
    assert passed.fulfillment.status == pb.FULFILLMENT_STATUS_READY


async def test_repeat_answers_with_the_fulfilment_as_it_stands(
    fulfillments: Fulfillments, planned: pb.Fulfillment
) -> None:
    """A repeat is answered with the fulfilment as it now stands; the same request_id with another
    body is refused.
    """
    start = asking(api.StartPickingRequest, planned.fulfillment_id)
    first = (await ask(fulfillments.StartPicking, start)).fulfillment
    scan = asking(
        api.ScanItemRequest, planned.fulfillment_id, scans=[api.Scan(sku="mug", quantity=1)]
    )
    scanned = (await ask(fulfillments.ScanItem, scan)).fulfillment
    assert (first.version, scanned.version) == (3, 4)
    assert (await ask(fulfillments.StartPicking, start)).fulfillment == scanned
    assert (await ask(fulfillments.ScanItem, scan)).fulfillment == scanned
    scan.scans[0].quantity = 2
    with pytest.raises(Invalid) as caught:
        await ask(fulfillments.ScanItem, scan)
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_two_methods_with_one_request_id_are_two_requests(
    fulfillments: Fulfillments, operations: Operations
) -> None:
    """The picking begins, and begins again after an inspection with the same request_id: the
    history has both.
    """
    await operations.orders.apply_order_events([confirmed(uuid4(), total=EXPENSIVE)])
    [fulfillment] = (
        await ask(fulfillments.ListFulfillments, api.ListFulfillmentsRequest())
    ).fulfillments
    start = asking(api.StartPickingRequest, fulfillment.fulfillment_id)
    await ask(fulfillments.StartPicking, start)
    scans = [api.Scan(sku=line.sku, quantity=line.quantity) for line in fulfillment.picklist]
    await ask(
        fulfillments.ScanItem, asking(api.ScanItemRequest, fulfillment.fulfillment_id, scans=scans)
    )
    await pack(
        fulfillments,
        (
            await ask(
                fulfillments.CompletePicking,
                asking(api.CompletePickingRequest, fulfillment.fulfillment_id),
            )
        ).fulfillment,
    )
    failing = asking(
        api.RecordInspectionRequest,
        fulfillment.fulfillment_id,
        request_id=start.request_id,
        passed=False,
        note="cracked",
    )
    failed = (await ask(fulfillments.RecordInspection, failing)).fulfillment
    assert failed.status == pb.FULFILLMENT_STATUS_PICKING
    assert (await ask(fulfillments.StartPicking, start)).fulfillment == failed


async def test_second_picker_gets_status_and_transitions(
    fulfillments: Fulfillments, planned: pb.Fulfillment
) -> None:
    """One of two pickers gets the picklist; the other gets its status and the allowed
    transitions.
    """
    starts = [asking(api.StartPickingRequest, planned.fulfillment_id) for _ in range(2)]
    answers = await asyncio.gather(
        *(ask(fulfillments.StartPicking, start) for start in starts), return_exceptions=True
    )
    [lost] = [answer for answer in answers if isinstance(answer, Refused)]
    assert (lost.reason, lost.metadata) == (
        "ILLEGAL_TRANSITION",
        {"status": "picking", "allowed": "cancelled, picked"},
    )


async def test_stale_version_is_refused_with_both_versions(
    fulfillments: Fulfillments, planned: pb.Fulfillment
) -> None:
    """The service compares expected_version with the fulfilment's version, and the refusal names
    both.
    """
    with pytest.raises(Stale) as caught:
        await ask(
            fulfillments.StartPicking,
            asking(api.StartPickingRequest, planned.fulfillment_id, expected_version=1),
        )
    assert (caught.value.reason, caught.value.metadata) == (
        "VERSION_MISMATCH",
        {"expected": "1", "actual": "2"},
    )
    await ask(
        fulfillments.StartPicking,
        asking(api.StartPickingRequest, planned.fulfillment_id, expected_version=2),
    )


async def refused(method: Any, request: object) -> Failure:
    """Returns the failure that the method answers the request with."""
    with pytest.raises(Failure) as caught:
        await ask(method, request)
    return caught.value


async def test_picking_refusals_name_reason_and_lines(
    fulfillments: Fulfillments, planned: pb.Fulfillment
) -> None:
    """Wrong scans and open lines each get a reason and the lines that it concerns; no unit is
    counted.
    """
    fulfillment_id = planned.fulfillment_id
    await ask(fulfillments.StartPicking, asking(api.StartPickingRequest, fulfillment_id))

    async def scanned(sku: str, quantity: int) -> Failure:
        scans = [api.Scan(sku="mug", quantity=1), api.Scan(sku=sku, quantity=quantity)]
        return await refused(
            fulfillments.ScanItem, asking(api.ScanItemRequest, fulfillment_id, scans=scans)
        )

    wrong = await scanned("cup", 1)
    assert (type(wrong), wrong.reason, wrong.metadata) == (
        Invalid,
        "SKU_NOT_ON_PICKLIST",
        {"sku": "cup"},
    )
    much = await scanned("Lamp, blue", 2)
    assert (type(much), much.reason) == (Refused, "QUANTITY_EXCEEDS_PICKLIST")
    assert much.metadata == {"sku": "Lamp, blue", "quantity": "1", "picked": "0"}
    still_open = await refused(
        fulfillments.CompletePicking, asking(api.CompletePickingRequest, fulfillment_id)
    )
    assert still_open.reason == "PICKING_INCOMPLETE"
    assert [(v.subject, v.description) for v in still_open.violations] == [
        ("line 1", "mug: 0 of 2 picked"),
        ("line 2", "Lamp, blue: 0 of 1 picked"),
        ("line 4", "mug: 0 of 3 picked"),
    ]


async def test_packing_refusals_name_reason_and_lines(
    fulfillments: Fulfillments, planned: pb.Fulfillment
) -> None:
    """Wrong packages and an inspection that is not required each get a reason and the lines that it
    concerns.
    """
    fulfillment_id = planned.fulfillment_id
    await ask(fulfillments.StartPicking, asking(api.StartPickingRequest, fulfillment_id))
    await ask(
        fulfillments.ScanItem,
        asking(
            api.ScanItemRequest,
            fulfillment_id,
            scans=[api.Scan(sku=line.sku, quantity=line.quantity) for line in planned.picklist],
        ),
    )
    await ask(fulfillments.CompletePicking, asking(api.CompletePickingRequest, fulfillment_id))
    await ask(fulfillments.StartPacking, asking(api.StartPackingRequest, fulfillment_id))
    packing = asking(
        api.PackFulfillmentRequest, fulfillment_id, packages=[package((1, 2), (2, 1), (4, 2))]
    )
    misfit = await refused(fulfillments.PackFulfillment, packing)
    assert (misfit.reason, [v.description for v in misfit.violations]) == (
        "PACKAGES_INCOMPLETE",
        ["3 picked, 2 packed"],
    )
    inspection = await refused(
        fulfillments.RecordInspection,
        asking(api.RecordInspectionRequest, fulfillment_id, passed=True),
    )
    assert inspection.reason == "INSPECTION_NOT_REQUIRED"


@pytest.mark.parametrize(
    "method",
    [
        "StartPicking",
        "ScanItem",
        "CompletePicking",
        "StartPacking",
        "PackFulfillment",
        "RecordInspection",
        "CancelFulfillment",
    ],
)
async def test_unknown_fulfilment_is_not_found(fulfillments: Fulfillments, method: str) -> None:
    """Every method that changes a fulfilment, and every read, answers FULFILLMENT_NOT_FOUND for an
    unknown id.
    """
    extra: dict[str, Any] = {
        "ScanItem": {"scans": [api.Scan(sku="mug", quantity=1)]},
        "PackFulfillment": {"packages": [package((1, 1))]},
    }
    unknown = str(uuid4())
    request = asking(getattr(api, f"{method}Request"), unknown, **extra.get(method, {}))
    for call in (
        (getattr(fulfillments, method), request),
        (fulfillments.GetFulfillment, api.GetFulfillmentRequest(fulfillment_id=unknown)),
        (
            fulfillments.ListFulfillmentTransitions,
            api.ListFulfillmentTransitionsRequest(fulfillment_id=unknown),
        ),
    ):
        with pytest.raises(NotFound) as caught:
            await ask(*call)
        assert (caught.value.reason, caught.value.metadata) == (
            "FULFILLMENT_NOT_FOUND",
            {"fulfillment_id": unknown},
        )


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("GetFulfillment", api.GetFulfillmentRequest(fulfillment_id="1"), "fulfillment_id"),
        ("StartPicking", api.StartPickingRequest(fulfillment_id=str(uuid4())), "request_id"),
        (
            "StartPicking",
            asking(api.StartPickingRequest, str(uuid4()), expected_version=0),
            "expected_version",
        ),
        ("ScanItem", asking(api.ScanItemRequest, str(uuid4())), "scans"),
        (
            "ScanItem",
            asking(api.ScanItemRequest, str(uuid4()), scans=[api.Scan(sku="mug")]),
            "scans[0].quantity",
        ),
        (
            "PackFulfillment",
            asking(api.PackFulfillmentRequest, str(uuid4()), packages=[package()]),
            "packages[0].items",
        ),
        (
            "PackFulfillment",
            asking(api.PackFulfillmentRequest, str(uuid4()), packages=[package((0, 1))]),
            "packages[0].items[0].line_number",
        ),
        (
            "CancelFulfillment",
            asking(api.CancelFulfillmentRequest, str(uuid4()), note="x" * 501),
            "note",
        ),
        ("CancelFulfillment", asking(api.CancelFulfillmentRequest, str(uuid4()), note=""), "note"),
        (
            "CompletePicking",
            asking(api.CompletePickingRequest, str(uuid4()), short_line_numbers=[1, 1]),
            "short_line_numbers",
        ),
        (
            "RecordInspection",
            asking(
                api.RecordInspectionRequest, str(uuid4()), spoiled=[api.SpoiledUnits(line_number=1)]
            ),
            "spoiled[0].quantity",
        ),
        ("ListFulfillments", api.ListFulfillmentsRequest(page_size=1001), "page_size"),
        (
            "ListFulfillments",
            api.ListFulfillmentsRequest(statuses=[pb.FULFILLMENT_STATUS_UNSPECIFIED]),
            "statuses[0]",
        ),
    ],
)
async def test_bad_fields_are_named(
    fulfillments: Fulfillments, method: str, request_: object, field: str
) -> None:
    """A request that breaks the contract's bounds never reaches the service, and the answer names
    the field.
    """
    with pytest.raises(Invalid) as caught:
        await ask(getattr(fulfillments, method), request_)
    assert (caught.value.reason, [v.subject for v in caught.value.violations]) == (
        "VALIDATION_FAILED",
        [field],
    )


@pytest.mark.parametrize(
    ("page_size", "fitting", "sizes"), [(2, 5, [2, 2, 1]), (1000, 2, [2, 2, 1]), (1000, 1, [1] * 5)]
)
async def test_lists_go_page_by_page(
    fulfillments: Fulfillments,
    operations: Operations,
    monkeypatch: pytest.MonkeyPatch,
    page_size: int,
    fitting: int,
    sizes: list[int],
) -> None:
    """Fulfilments come oldest first and once, in pages no larger than a client accepts; a token
    belongs to its filter.
    """
    orders = [uuid4() for _ in range(5)]
    for order_id in orders:
        await operations.orders.apply_order_events([confirmed(order_id)])
    dover = api.ListFulfillmentsRequest(warehouse_id="DOVER")
    whole = (await ask(fulfillments.ListFulfillments, dover)).fulfillments
    with monkeypatch.context() as patch:
        patch.setattr(
            paging,
            "ANSWER_BYTES_MAX",
            room_for(*[max(whole, key=lambda fulfillment: fulfillment.ByteSize())] * fitting),
        )
        found = [
            [each.order_id for each in page]
            async for page in pages(
                fulfillments.ListFulfillments, dover, "fulfillments", size=page_size
            )
        ]
    assert [id for page in found for id in page] == [str(order_id) for order_id in orders]
    assert list(map(len, found)) == sizes
    summary = await ask(
        fulfillments.ListFulfillments,
        api.ListFulfillmentsRequest(warehouse_id="DOVER", view=VIEW_SUMMARY),
    )
    assert [(each.order_id, len(each.picklist)) for each in summary.fulfillments] == [
        (each.order_id, 0) for each in whole
    ]
    token = (
        await ask(
            fulfillments.ListFulfillments,
            api.ListFulfillmentsRequest(warehouse_id="DOVER", page_size=1),
        )
    ).next_page_token
    request = api.ListFulfillmentsRequest(warehouse_id="LEEDS", page_token=token)
    with pytest.raises(Invalid) as caught:
        await ask(fulfillments.ListFulfillments, request)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"
    one = await ask(
        fulfillments.ListFulfillments, api.ListFulfillmentsRequest(order_id=str(orders[3]))
    )
    assert [each.order_id for each in one.fulfillments] == [str(orders[3])]
