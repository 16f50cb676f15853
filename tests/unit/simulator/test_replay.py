"""Replays against a shop in memory: everything is delivered once, counted exactly, and what
fails is told.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import pytest
from ordermesh.order.v1 import return_pb2
from ordermesh.shipping.v1 import shipping_pb2

from chassis.values.errors import Deferred, Failure, Refused
from simulator import report
from simulator.books import Books
from simulator.credits import Credit
from simulator.invoices import Good, Invoice
from simulator.ledger import Ledger, parse
from simulator.meter import line
from simulator.replay import Replay, Walked, replay
from simulator.requests import checkout
from simulator.shoppers import LOST, REFUSED, STUCK, Purchase, Shoppers
from simulator.world import World
from tests.support import Eventually
from tests.unit.simulator.samples import INVOICE, ORDER_ID, order, shipment
from tests.unit.simulator.shop import Shop, living

FREE = Invoice(
    number="536414",
    time=INVOICE.time,
    customer=None,
    country="United Kingdom",
    goods=(Good("22139", 56, 0),),
    rows=1,
)
LEFT = parse(
    "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\nC536379,D,-1,01-12-10"
    " 9:41,27.5,14527,UK\n"
).left
LEDGER = Ledger((INVOICE, FREE), LEFT, 7)


async def run(
    shop: Shop, ledger: Ledger = LEDGER, label: str = "", patience_s: float = 10.0
) -> tuple[Replay, list[Walked]]:
    """The ledger replayed in this shop, with a world that looks often."""
    told: list[Walked] = []
    world = World(shop)
    async with living(world):
        shoppers = Shoppers(shop, world, patience_s)
        done = await replay(shop, shoppers, ledger, label=label, concurrency=2, tell=told.append)
    return done, told


async def test_every_invoice_is_delivered_and_counted() -> None:
    """Each invoice, the free one included, ends delivered, and the services' books are the
    file's to the unit and the penny.
    """
    shop = Shop()
    done, told = await run(shop)
    assert [walked.purchase.outcome for walked in done.walked] == ["delivered", "delivered"]
    assert (done.books.ordered_units, done.books.shipped_units) == (65, 65)
    assert done.books.ordered == done.books.captured == INVOICE.total
    assert report.complete(done)
    assert {walked.invoice.number for walked in told} == {"536365", "536414"}
    assert shop.calls["CreatePayment"] == 1, "nobody pays for what is free"


async def test_a_second_replay_orders_nothing_twice() -> None:
    """The same file finds the same orders delivered, and books no stock again; under a label
    everything is ordered anew.
    """
    shop = Shop()
    await run(shop)
    orders, receipts = len(shop.placed), len(shop.received)
    done, _ = await run(shop)
    assert (len(shop.placed), len(shop.received), shop.calls["CreatePayment"]) == (
        orders,
        receipts,
        1,
    )
    assert all(walked.purchase.found for walked in done.walked)
    assert report.complete(done)
    assert "  again    2 of them were there from an earlier replay" in "\n".join(
        report.summary(done)
    )
    await run(shop, label="again")
    assert (len(shop.placed), len(shop.received)) == (2 * orders, 2 * receipts)


async def test_stock_comes_before_the_order() -> None:
    """What the invoices need is received, to the unit."""
    shop = Shop()
    await run(shop)
    received: dict[str, int] = {}
    for receipt in shop.received.values():
        for each in receipt.lines:
            received[each.sku] = received.get(each.sku, 0) + each.quantity
    assert received == {"85123A": 7, "22139": 58}


@pytest.mark.parametrize(
    ("method", "failure", "outcome", "why"),
    [
        (
            "CreateOrder",
            Refused("INSUFFICIENT_STOCK", "85123A is short"),
            REFUSED,
            "INSUFFICIENT_STOCK: 85123A is short",
        ),
        (
            "ReceiveStock",
            Deferred("DEPENDENCY_UNAVAILABLE", "away", peer_reason="DRAINING"),
            REFUSED,
            "could not be booked: DRAINING: away",
        ),
        (
            "CreatePayment",
            Refused("PAYMENT_DECLINED", "no money"),
            STUCK,
            "not paid: PAYMENT_DECLINED: no money",
        ),
    ],
)
async def test_what_is_refused_is_told(
    method: str, failure: Failure, outcome: str, why: str
) -> None:
    """A refusal ends one invoice and no other, is told with its reason, and the replay is not
    complete.
    """
    shop = Shop()
    shop.failures[method] = [failure]
    done, _ = await run(shop)
    refused, delivered = sorted(
        done.walked, key=lambda walked: walked.purchase.outcome == "delivered"
    )
    assert (refused.purchase.outcome, delivered.purchase.outcome) == (outcome, "delivered")
    assert why in report.not_delivered(refused)
    assert not report.complete(done)


async def test_what_is_stuck_names_the_step() -> None:
    """An order that does not end in time is stuck, and the report says where and what to look
    at.
    """
    shop = Shop()
    shop.deaf = True
    done, _ = await run(shop, Ledger((INVOICE,), (), 5), patience_s=0.2)
    [walked] = done.walked
    assert walked.purchase.outcome == STUCK
    assert "paid, and the order has not heard of it" in walked.purchase.why
    assert "order.log" in "\n".join(report.lines(done))


async def test_failed_steps_are_taken_again() -> None:
    """Whatever step fails, the next look takes it again, and the order arrives."""
    shop = Shop()
    for method in (
        "StartPicking",
        "ScanItem",
        "PackFulfillment",
        "RecordTrackingEvent",
        "ListFulfillments",
        "ListShipments",
    ):
        shop.failures[method] = [Deferred("DEPENDENCY_UNAVAILABLE"), Refused("VERSION_MISMATCH")]
    done, _ = await run(shop)
    assert report.complete(done)


async def test_picking_waits_for_the_stock(eventually: Eventually) -> None:
    """While the stock is not committed nobody picks; once it is, somebody does, though no event
    tells of it.
    """
    shop = Shop()
    shop.uncommitted = True
    async with buying(shop) as purchase:
        await eventually(lambda: shop.calls["ListFulfillments"] > 3)
        assert shop.calls["StartPicking"] == 0
        for work in shop.works.values():
            work.stock_committed = True
        assert (await purchase).outcome == "delivered"


async def test_a_lost_order_is_noticed(eventually: Eventually) -> None:
    """An order that was acknowledged, and that the service does not know any more, is lost, and
    not waited for.
    """
    shop = Shop()
    shop.deaf = True
    async with buying(shop) as purchase:
        await eventually(lambda: shop.captured)
        shop.placed.clear()
        assert (await purchase).outcome == LOST


@pytest.mark.parametrize("status", ["CANCELLED", "FAILED"])
async def test_an_order_that_ended_otherwise_says_why(status: str, eventually: Eventually) -> None:
    """What was not delivered is listed with the order's own reason; where it ended in an earlier
    replay, with the way to order anew.
    """
    shop = Shop()
    shop.deaf = True
    async with buying(shop) as purchase:
        await eventually(lambda: shop.captured)
        [placed] = shop.placed.values()
        placed.status_reason = "PAYMENT_EXPIRED"
        shop._move(placed.order_id, status)
        told = report.not_delivered(Walked(INVOICE, await purchase))
    assert told.endswith(
        f": {status.lower()} {placed.order_number} ({placed.order_id}): PAYMENT_EXPIRED"
    )

    [walked] = (await run(shop, Ledger((INVOICE,), (), 5)))[0].walked
    assert (
        report.not_delivered(walked)
        == f"{told} (since an earlier replay; --again LABEL orders anew)"
    )


async def test_an_order_that_cannot_be_asked_says_so(eventually: Eventually) -> None:
    """A service that is away when it is asked for the reason keeps no replay from its report."""
    shop = Shop()
    shop.deaf = True
    shop.failures["GetOrder"] = [Refused("PEER_DISAGREES")]
    async with buying(shop) as purchase:
        await eventually(lambda: shop.captured)
        shop._move(next(iter(shop.placed)), "CANCELLED")
        ended = await purchase
    assert (ended.outcome, ended.why) == (
        "cancelled",
        "it cannot be asked why: PEER_DISAGREES: PEER_DISAGREES",
    )


@asynccontextmanager
async def buying(shop: Shop) -> AsyncIterator[asyncio.Task[Purchase]]:
    """Somebody buys what the invoice says."""
    world = World(shop)
    async with living(world):
        yield asyncio.create_task(Shoppers(shop, world, 10.0).buy(checkout(INVOICE), INVOICE.key()))


def replayed(*outcomes: str, books: Books | None = None) -> Replay:
    """A replay of as many invoices, that ended so."""
    walked = tuple(
        Walked(replace(INVOICE, number=str(number)), Purchase(outcome))
        for number, outcome in enumerate(outcomes)
    )
    ledger = Ledger(tuple(each.invoice for each in walked), LEFT, 5 * len(outcomes) + 1)
    count = len(outcomes)
    return Replay(
        ledger=ledger,
        walked=walked,
        books=books
        or Books(
            ordered_units=9 * count,
            shipped_units=9 * count,
            ordered=INVOICE.total * count,
            captured=INVOICE.total * count,
        ),
        seconds=2.0,
    )


def test_the_report() -> None:
    """Row by row what was left out, then orders, rows, units and money, beside what the services
    say.
    """
    done = replayed("delivered", "delivered")
    assert report.complete(done)
    assert list(report.lines(done)) == [
        "Left out, row by row:",
        "  line      2  C536379    D                 -1 x 27.5     a discount afterwards, no goods",
        "2 of 2 orders delivered in 2.0 s",
        "  orders   2 delivered",
        "  rows     11 in the file: 10 in orders, 1 left out; 1 a discount afterwards, no goods",
        (
            "  units    18 in the file's orders (and 2 of postage, as shipping): 18 ordered, 18"
            " shipped"
        ),
        "  money    99.42 GBP in the file's orders: 99.42 GBP ordered, 99.42 GBP captured",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        Books(ordered_units=8, shipped_units=9, ordered=INVOICE.total, captured=INVOICE.total),
        Books(ordered_units=9, shipped_units=8, ordered=INVOICE.total, captured=INVOICE.total),
        Books(ordered_units=9, shipped_units=9, ordered=INVOICE.total + 1, captured=INVOICE.total),
        Books(ordered_units=9, shipped_units=9, ordered=INVOICE.total, captured=INVOICE.total - 1),
    ],
)
def test_a_difference_of_one_is_noticed(wrong: Books) -> None:
    """One unit or one penny more or less in anybody's books, and the replay is not complete, and
    says so.
    """
    assert not report.complete(replayed("delivered", books=wrong))
    assert (
        list(report.summary(replayed("delivered", books=wrong)))[-1]
        == "  The file and the services' books differ."
    )


def test_what_did_not_arrive_is_listed() -> None:
    """Orders are counted by how they ended, and each that did not arrive is named."""
    told = "\n".join(report.lines(replayed("delivered", "cancelled", "delivered")))
    assert "2 of 3 orders delivered" in told
    assert "  orders   2 delivered, 1 cancelled" in told
    assert "  invoice 1: cancelled" in told
    assert not report.complete(replayed("delivered", "cancelled"))


def test_an_invoice_that_is_through_is_one_line() -> None:
    """In a pipe each invoice is a line, with how far the whole is."""
    assert (
        line(Walked(INVOICE, Purchase("delivered")), 7, 62)
        == " 7/62  536365        9 units      49.71 GBP  delivered"
    )


# --- credit notes

PLAIN = replace(INVOICE, number="1", discount=0)
CREDITS = (
    Credit("C1", PLAIN, ((1, 2), (2, 1)), rows=2),
    Credit("C2", PLAIN, ((1, 1),), rows=1),
    Credit("C3", FREE, ((1, 56),), rows=1),
)
CREDITED = Ledger(invoices=(PLAIN, FREE), left=(), rows=10, credits=CREDITS)


async def test_what_is_credited_comes_back() -> None:
    """Every credit is returned, restocked and refunded to the unit and the penny; the report
    counts rows, units and money.
    """
    shop = Shop()
    done, _ = await run(shop, CREDITED)
    assert [each.outcome for walked in done.walked for each in walked.returned] == ["closed"] * 3
    assert (done.books.returned_units, done.books.restocked_units) == (60, 60)
    assert done.books.refunded == done.books.worth == 3 * 255 + 765
    assert report.complete(done)
    told = list(report.lines(done))
    assert told[2] == "  rows     10 in the file: 6 in orders, 4 in returns, 0 left out"
    assert told[-3:] == [
        "  returns  3 closed",
        "  units    60 in the file's credits: 60 returned, 60 restocked",
        "  money    15.30 GBP in the file's credits: 15.30 GBP refunded",
    ]
    walked = next(walked for walked in done.walked if walked.invoice is FREE)
    assert line(walked, 1, 2).endswith("delivered, 56 units back: closed")


async def test_what_came_back_does_not_come_back_again() -> None:
    """A second replay finds the orders and the returns, also of an order that came back whole;
    under a label all is made anew.
    """
    whole = Ledger(
        invoices=(replace(PLAIN, postage=0),),
        left=(),
        rows=4,
        credits=(Credit("C1", replace(PLAIN, postage=0), ((1, 6), (2, 2), (3, 1)), rows=1),),
    )
    shop = Shop()
    first, _ = await run(shop, whole)
    assert report.complete(first)
    refunded, returns = dict(shop.refunded), len(shop.sent_back)
    again, _ = await run(shop, whole)
    assert [walked.purchase.outcome for walked in again.walked] == ["refunded"]
    assert report.complete(again)
    assert (dict(shop.refunded), len(shop.sent_back)) == (refunded, returns)
    await run(shop, whole, label="again")
    assert len(shop.sent_back) == 2 * returns


async def test_a_discount_is_not_given_twice() -> None:
    """Units of a discounted invoice are refunded with what was paid for them, and the report
    says where the rest is.
    """
    shop = Shop()
    done, _ = await run(
        shop,
        Ledger(
            invoices=(INVOICE,),
            left=(),
            rows=6,
            credits=(Credit("C1", INVOICE, ((1, 1),), rows=1),),
        ),
    )
    assert done.books.refunded == 255 - 99
    assert report.complete(done)
    told = list(report.lines(done))[-1]
    assert (
        told == "  money    2.55 GBP in the file's credits (0.99 GBP of it was never paid, by"
        " discounts): 1.56 GBP refunded"
    )


@pytest.mark.parametrize("wrong", ["returned_units", "restocked_units", "refunded", "worth"])
async def test_a_difference_in_what_came_back_is_noticed(wrong: str) -> None:
    """One unit or one penny more in anybody's books of returns, and the replay is not complete,
    and says so.
    """
    done, _ = await run(Shop(), CREDITED)
    books = replace(done.books, **{wrong: getattr(done.books, wrong) + 1})
    assert not report.complete(replace(done, books=books))
    assert (
        list(report.summary(replace(done, books=books)))[-1]
        == "  The file and the services' books differ."
    )


async def test_what_does_not_come_back_is_told() -> None:
    """A return that is refused, one that goes no further, and one whose order did not arrive:
    each is named, and nothing is complete.
    """
    shop = Shop()
    shop.failures["CreateReturn"] = [Refused("RETURN_EXCEEDS_DELIVERED", "too many")]
    done, _ = await run(shop, Ledger(invoices=(PLAIN,), left=(), rows=6, credits=CREDITS[:2]))
    assert "  credit note C1 of invoice 1: refused: RETURN_EXCEEDS_DELIVERED: too many" in list(
        report.lines(done)
    )
    assert "  returns  1 refused, 1 closed" in list(report.lines(done))
    assert not report.complete(done)

    shop = Shop()
    shop.stingy = True
    done, _ = await run(
        shop, Ledger(invoices=(PLAIN,), left=(), rows=6, credits=CREDITS[:1]), patience_s=0.5
    )
    [kept] = [each for walked in done.walked for each in walked.returned]
    assert (kept.outcome, "the return is inspected" in kept.why) == ("stuck", True)

    shop = Shop()
    shop.failures["CreateOrder"] = [Refused("INSUFFICIENT_STOCK")]
    done, _ = await run(shop, Ledger(invoices=(PLAIN,), left=(), rows=6, credits=CREDITS[:1]))
    assert "  credit note C1 of invoice 1: refused: its order did not arrive" in list(
        report.lines(done)
    )
    assert not shop.sent_back


async def test_a_parcel_that_is_wanted_back_is_brought_back(eventually: Eventually) -> None:
    """A carrier that hears of a recall under way brings the parcel back; then the goods that
    nobody announced are taken in.
    """
    shop = Shop()
    world = World(shop, everybody=True)
    parcel = shipment("in_transit")
    parcel.recall_time.CopyFrom(parcel.update_time)
    parcel.tracking_number = ORDER_ID
    shop.parcels[ORDER_ID] = parcel
    shop.placed[ORDER_ID] = order("cancelled")
    shop.placed[ORDER_ID].items.add(line_number=1, sku="A", quantity=2)
    shop.sent_back["r"] = return_pb2.Return(
        return_id=str(UUID(int=9)),
        order_id=ORDER_ID,
        kind=return_pb2.RETURN_KIND_RECALL,
        status=return_pb2.RETURN_STATUS_APPROVED,
        lines=[return_pb2.ReturnLine(line_number=1, sku="A", announced_quantity=2)],
        version=1,
    )
    shop.sent_back = {its.return_id: its for its in shop.sent_back.values()}
    async with living(world):
        [its] = shop.sent_back.values()
        await eventually(lambda: its.status == return_pb2.RETURN_STATUS_INSPECTED)
    assert parcel.status == shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER
    assert its.lines[0].passed_quantity == 2
    assert not shop.refunded[ORDER_ID]


async def test_goods_on_their_way_are_not_taken_in(eventually: Eventually) -> None:
    """While a parcel has not come to rest nobody takes in what comes back, nor ever what a
    customer has announced to others.
    """
    shop = Shop()
    world = World(shop, everybody=True)
    waiting = shipment("created")  # wanted back, and the carrier has not answered
    waiting.recall_time.CopyFrom(waiting.update_time)
    shop.parcels[ORDER_ID] = waiting
    for number, kind in enumerate(
        (return_pb2.RETURN_KIND_RECALL, return_pb2.RETURN_KIND_CUSTOMER), 1
    ):
        id = str(UUID(int=number))
        shop.sent_back[id] = return_pb2.Return(
            return_id=id, order_id=ORDER_ID, kind=kind, status=return_pb2.RETURN_STATUS_APPROVED
        )
    async with living(world):
        await eventually(lambda: shop.calls["ListReturns"] > 5)
    assert {its.status for its in shop.sent_back.values()} == {return_pb2.RETURN_STATUS_APPROVED}
    assert not shop.calls["RecordTrackingEvent"]
