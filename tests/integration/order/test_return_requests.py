"""Requests about returns that are refused, and the lists of returns, over a real channel and a real
PostgreSQL.
"""

from collections.abc import Awaitable
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ordermesh.order.v1 import return_pb2
from ordermesh.order.v1 import return_service_pb2 as api
from ordermesh.view.v1.view_pb2 import VIEW_SUMMARY
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.rpc.client import ask, pages
from chassis.values import paging
from chassis.values.errors import Failure, Invalid, NotFound, Refused, Stale
from order_svc.app import Operations
from order_svc.model.records import Order
from tests.integration.order.requests import Orders, Returns, create_order
from tests.integration.order.returns import (
    STATUS,
    about,
    approved,
    delivered,
    inspection,
    made,
    money,
    receipt,
    wanted,
)
from tests.support import room_for


@pytest.fixture
async def order(orders: Orders, operations: Operations) -> Order:
    """A delivered order of three lamps (10.00 each) and two bulbs (1.00 each)."""
    return await delivered(orders, operations)


Refusal = tuple[type[Failure], str, Awaitable[Any]]


async def check_refusals(*refusals: Refusal) -> None:
    """Checks that each call fails with its kind and reason."""
    for kind, reason, call in refusals:
        with pytest.raises(kind) as refused:
            await call
        assert refused.value.reason == reason


async def test_invalid_return_is_refused_with_its_reason(
    returns: Returns, orders: Orders, order: Order
) -> None:
    """Unknown orders, units that the customer has not, stale versions, illegal steps and other
    bodies each get their reason.
    """
    order_return = await made(returns, order, {1: 1})
    create = wanted(order, {1: 1})
    await ask(returns.CreateReturn, create)
    create.lines[0].quantity = 2
    pending = (await orders.CreateOrder(create_order(), timeout=30)).order
    await check_refusals(
        (Invalid, "REQUEST_ID_REUSED", ask(returns.CreateReturn, create)),
        (
            NotFound,
            "ORDER_NOT_FOUND",
            ask(returns.CreateReturn, wanted(order, {1: 1}, order_id=str(uuid4()))),
        ),
        (
            Refused,
            "ORDER_NOT_RETURNABLE",
            ask(returns.CreateReturn, wanted(order, {1: 1}, order_id=pending.order_id)),
        ),
        (
            Refused,
            "RETURN_EXCEEDS_DELIVERED",
            ask(returns.CreateReturn, wanted(order, {1: 2, 7: 1})),
        ),
        (
            Stale,
            "VERSION_MISMATCH",
            ask(returns.CreateReturn, wanted(order, {1: 1}, expected_version=1)),
        ),
        (
            Stale,
            "VERSION_MISMATCH",
            ask(returns.CreateReturn, money(order, {1: (1, "NONE")}, expected_version=1)),
        ),
        (
            Stale,
            "VERSION_MISMATCH",
            ask(
                returns.ApproveReturn,
                api.ApproveReturnRequest(**about(order_return), expected_version=2),
            ),
        ),
        (Refused, "ILLEGAL_TRANSITION", ask(returns.ReceiveReturn, receipt(order_return, {1: 1}))),
    )


async def test_method_of_an_unknown_return_is_refused(returns: Returns) -> None:
    """Each method of a return answers RETURN_NOT_FOUND for an id without a return."""
    unknown = return_pb2.Return(return_id=str(uuid4()))
    await check_refusals(
        (
            NotFound,
            "RETURN_NOT_FOUND",
            ask(returns.GetReturn, api.GetReturnRequest(return_id=unknown.return_id)),
        ),
        (
            NotFound,
            "RETURN_NOT_FOUND",
            ask(returns.ApproveReturn, api.ApproveReturnRequest(**about(unknown))),
        ),
        (
            NotFound,
            "RETURN_NOT_FOUND",
            ask(returns.RejectReturn, api.RejectReturnRequest(**about(unknown))),
        ),
        (
            NotFound,
            "RETURN_NOT_FOUND",
            ask(returns.MarkReturnInTransit, api.MarkReturnInTransitRequest(**about(unknown))),
        ),
        (NotFound, "RETURN_NOT_FOUND", ask(returns.ReceiveReturn, receipt(unknown, {1: 1}))),
        (
            NotFound,
            "RETURN_NOT_FOUND",
            ask(returns.InspectReturn, inspection(unknown, {1: (1, 0, 0)})),
        ),
        (
            NotFound,
            "RETURN_NOT_FOUND",
            ask(returns.CancelReturn, api.CancelReturnRequest(**about(unknown))),
        ),
    )


async def test_return_that_breaks_the_contract_is_refused(returns: Returns, order: Order) -> None:
    """Refused: a line twice, a disposition where goods come back, none where they do not, no
    warehouse where stock changes, and an inspection without units.
    """
    order_return = await made(returns, order, {1: 1})
    twice = [api.NewReturnLine(line_number=1, quantity=1)] * 2
    disposed = [
        api.NewReturnLine(line_number=1, quantity=1, disposition=return_pb2.STOCK_DISPOSITION_NONE)
    ]
    calls: list[Awaitable[Any]] = [
        ask(returns.CreateReturn, wanted(order, twice)),
        ask(returns.CreateReturn, wanted(order, {})),
        ask(returns.CreateReturn, wanted(order, disposed)),
        ask(returns.CreateReturn, wanted(order, {1: 1}, without_goods=True)),
        ask(returns.CreateReturn, money(order, {1: (1, "RESTOCK")})),
        ask(returns.CreateReturn, wanted(order, {1: 1}, reason="no capitals")),
        ask(returns.InspectReturn, inspection(order_return, {1: (0, 0, 0)})),
        ask(returns.InspectReturn, inspection(order_return, {1: (1, 0, 2)})),
        ask(returns.ReceiveReturn, receipt(order_return, {1: 1}, warehouse_id="")),
        ask(
            returns.ListReturns, api.ListReturnsRequest(statuses=[STATUS.RETURN_STATUS_UNSPECIFIED])
        ),
    ]
    for call in calls:
        with pytest.raises(Invalid) as refused:
            await call
        assert refused.value.reason == "VALIDATION_FAILED"


@pytest.mark.parametrize(("page_size", "bounded"), [(2, False), (1000, True)])
async def test_lists_page_newest_first_and_filter(
    returns: Returns,
    orders: Orders,
    operations: Operations,
    order: Order,
    monkeypatch: pytest.MonkeyPatch,
    page_size: int,
    bounded: bool,
) -> None:
    """The pages have each return once and are no larger than a client accepts. All filters must
    match; a token of another filter is refused.
    """
    other = await delivered(orders, operations)
    returns_ = [
        await made(returns, which, {1: 1, 2: 1} if number == 3 else {1: 1})
        for number, which in enumerate((order, other, order, other, order))
    ]
    ids = [order_return.return_id for order_return in returns_]
    await ask(returns.ApproveReturn, api.ApproveReturnRequest(**about(returns_[2])))
    with monkeypatch.context() as patch:
        if bounded:
            patch.setattr(paging, "ANSWER_BYTES_MAX", room_for(returns_[4], returns_[3]))
        listed = [
            [order_return.return_id for order_return in page]
            async for page in pages(
                returns.ListReturns, api.ListReturnsRequest(), "returns", size=page_size
            )
        ]
    assert [id for page in listed for id in page] == ids[::-1]
    assert list(map(len, listed)) == [2, 2, 1]
    summary = await ask(returns.ListReturns, api.ListReturnsRequest(view=VIEW_SUMMARY))
    found = [(order_return.return_id, len(order_return.lines)) for order_return in summary.returns]
    assert found == [(id, 0) for id in reversed(ids)]

    async def matching(**fields: Any) -> list[int]:
        answer = await ask(returns.ListReturns, api.ListReturnsRequest(**fields))
        return [ids.index(order_return.return_id) for order_return in answer.returns]

    requested = [STATUS.RETURN_STATUS_REQUESTED]
    assert await matching(order_id=str(order.id)) == [4, 2, 0]
    assert await matching(order_id=str(order.id), statuses=requested) == [4, 0]
    assert await matching(statuses=[STATUS.RETURN_STATUS_APPROVED]) == [2]
    assert await matching(create_time_from=returns_[3].create_time) == [4, 3]
    later = Timestamp(seconds=returns_[4].create_time.seconds + 9)
    assert await matching(create_time_from=later) == []
    token = (await ask(returns.ListReturns, api.ListReturnsRequest(page_size=1))).next_page_token
    with pytest.raises(Invalid) as refused:
        await ask(returns.ListReturns, api.ListReturnsRequest(page_token=token, statuses=requested))
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    "change",
    [
        "update return_lines set passed = received + 1",
        "update return_lines set passed = 1, failed = 1, written_off = 1",
        "update return_lines set passed = 1, unrefunded = 2",
        "update return_lines set received = -1",
        "update return_lines set refund = -1",
        "update return_lines set number = 9",
        "update returns set version = 0",
        "update returns set refunded = -1",
        "update returns set kind = 'recall', refunded = 1",
        (
            "insert into return_history select return_id, 9, old, new, reason, actor, cause, time"
            " from return_history where version = 2"
        ),
        "update return_history set old = null where version = 2",
    ],
)
async def test_database_refuses_invalid_returns(
    returns: Returns, order: Order, engine: AsyncEngine, change: str
) -> None:
    """Constraints refuse accepted units that have not arrived, money for a recall, a line of
    another order, and a step twice.
    """
    order_return = await approved(returns, order, {1: 2})
    await ask(returns.ReceiveReturn, receipt(order_return, {1: 2}))
    with pytest.raises(IntegrityError):
        async with engine.begin() as connection:
            await connection.execute(text(change))
