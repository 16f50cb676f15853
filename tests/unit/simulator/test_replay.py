"""Replays against a shop in memory: every invoice is delivered once and counted exactly, and
failures are reported.
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
from simulator.credits import Credit
from simulator.invoices import Good, Invoice
from simulator.ledger import Ledger, parse
from simulator.meter import line
from simulator.replay import Replay, Walked, replay
from simulator.requests import checkout
from simulator.returns import REFUSED, STUCK
from simulator.shoppers import LOST, Purchase, Shoppers
from simulator.totals import Totals
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
UNUSED = parse(
    "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\nC536379,D,-1,01-12-10"
    " 9:41,27.5,14527,UK\n"
).unused
LEDGER = Ledger(invoices=(INVOICE, FREE), unused=UNUSED, rows=7)


async def run(
    shop: Shop, ledger: Ledger = LEDGER, label: str = "", wait_s: float = 10.0
) -> tuple[Replay, list[Walked]]:
    """Replays the ledger in this shop, with a world that polls at short intervals."""
    reported: list[Walked] = []
    world = World(shop)
    async with living(world):
        shoppers = Shoppers(shop, world, wait_s)
        done = await replay(
            shop, shoppers, ledger, label=label, concurrency=2, progress=reported.append
        )
    return done, reported


async def test_every_invoice_is_delivered_and_counted() -> None:
    """Each invoice, also the free one, ends delivered. The services' records equal the file's, to
    the unit and the penny.
    """
    shop = Shop()
    done, reported = await run(shop)
    assert [walked.purchase.outcome for walked in done.walked] == ["delivered", "delivered"]
    assert (done.totals.ordered_units, done.totals.shipped_units) == (65, 65)
    assert done.totals.ordered == done.totals.captured == INVOICE.total
    assert report.complete(done)
    assert {walked.invoice.number for walked in reported} == {"536365", "536414"}
    assert shop.calls["CreatePayment"] == 1, "a free order has no payment"


async def test_second_replay_orders_nothing_twice() -> None:
    """The same file finds the same orders delivered, and posts no stock again. Under a label every
    order is new.
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
    """The units of the invoices are received before the orders, exactly."""
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
            "could not be received: DRAINING: away",
        ),
        (
            "CreatePayment",
            Refused("PAYMENT_DECLINED", "no money"),
            STUCK,
            "not paid: PAYMENT_DECLINED: no money",
        ),
    ],
)
async def test_refused_invoice_is_reported_with_its_reason(
    method: str, failure: Failure, outcome: str, why: str
) -> None:
    """A refusal ends one invoice alone and is reported with its reason. The replay is
    incomplete.
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


async def test_stuck_order_is_reported_with_its_step() -> None:
    """An order that does not end in time is stuck, and the report names the step and what to
    check.
    """
    shop = Shop()
    shop.unconfirmed = True
    done, _ = await run(shop, Ledger(invoices=(INVOICE,), unused=(), rows=5), wait_s=0.2)
    [walked] = done.walked
    assert walked.purchase.outcome == STUCK
    assert "paid, and the order has not consumed the event" in walked.purchase.why
    assert "order.log" in "\n".join(report.lines(done))


async def test_failed_step_is_repeated() -> None:
    """The next poll repeats any failed step, and the order is delivered."""
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
    """The staff wait while the stock is not committed, and pick afterwards, also without an
    event.
    """
    shop = Shop()
    shop.uncommitted = True
    async with started_purchase(shop) as purchase:
        await eventually(lambda: shop.calls["ListFulfillments"] > 3)
        assert shop.calls["StartPicking"] == 0
        for work in shop.works.values():
            work.stock_committed = True
        assert (await purchase).outcome == "delivered"


async def test_lost_order_is_reported_as_lost(eventually: Eventually) -> None:
    """An order that the service acknowledged and does not find again is lost, and the replay stops
    waiting for it.
    """
    shop = Shop()
    shop.unconfirmed = True
    async with started_purchase(shop) as purchase:
        await eventually(lambda: shop.captured)
        shop.placed.clear()
        assert (await purchase).outcome == LOST


@pytest.mark.parametrize("status", ["CANCELLED", "FAILED"])
async def test_undelivered_order_is_reported_with_its_reason(
    status: str, eventually: Eventually
) -> None:
    """An undelivered order is listed with its own reason. If it ended in an earlier replay, the
    report names the option to order again.
    """
    shop = Shop()
    shop.unconfirmed = True
    async with started_purchase(shop) as purchase:
        await eventually(lambda: shop.captured)
        [placed] = shop.placed.values()
        placed.status_reason = "PAYMENT_EXPIRED"
        shop._move(placed.order_id, status)
        reported = report.not_delivered(Walked(INVOICE, await purchase))
    assert reported.endswith(
        f": {status.lower()} {placed.order_number} ({placed.order_id}): PAYMENT_EXPIRED"
    )

    [walked] = (await run(shop, Ledger(invoices=(INVOICE,), unused=(), rows=5)))[0].walked
    assert (
        report.not_delivered(walked)
        == f"{reported} (since an earlier replay; --again LABEL orders anew)"
    )


async def test_report_names_a_reason_that_could_not_be_read(eventually: Eventually) -> None:
    """A service that does not return the reason does not prevent the report."""
    shop = Shop()
    shop.unconfirmed = True
    shop.failures["GetOrder"] = [Refused("PEER_DISAGREES")]
    async with started_purchase(shop) as purchase:
        await eventually(lambda: shop.captured)
        shop._move(next(iter(shop.placed)), "CANCELLED")
        ended = await purchase
    assert (ended.outcome, ended.why) == (
        "cancelled",
        "its reason could not be read: PEER_DISAGREES: PEER_DISAGREES",
    )


@asynccontextmanager
async def started_purchase(shop: Shop) -> AsyncIterator[asyncio.Task[Purchase]]:
    """A shopper buys the goods of the invoice."""
    world = World(shop)
    async with living(world):
        yield asyncio.create_task(Shoppers(shop, world, 10.0).buy(checkout(INVOICE), INVOICE.key()))


def replayed(*outcomes: str, totals: Totals | None = None) -> Replay:
    """Returns a replay of as many invoices with these outcomes."""
    walked = tuple(
        Walked(replace(INVOICE, number=str(number)), Purchase(outcome=outcome))
        for number, outcome in enumerate(outcomes)
    )
    ledger = Ledger(
        invoices=tuple(each.invoice for each in walked), unused=UNUSED, rows=5 * len(outcomes) + 1
    )
    count = len(outcomes)
    return Replay(
        ledger=ledger,
        walked=walked,
        totals=totals
        or Totals(
            ordered_units=9 * count,
            shipped_units=9 * count,
            ordered=INVOICE.total * count,
            captured=INVOICE.total * count,
        ),
        seconds=2.0,
    )


def test_report_lists_rows_orders_units_and_money() -> None:
    """The report lists the unused rows, then orders, rows, units and money, beside the services'
    figures.
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
        Totals(ordered_units=8, shipped_units=9, ordered=INVOICE.total, captured=INVOICE.total),
        Totals(ordered_units=9, shipped_units=8, ordered=INVOICE.total, captured=INVOICE.total),
        Totals(ordered_units=9, shipped_units=9, ordered=INVOICE.total + 1, captured=INVOICE.total),
        Totals(ordered_units=9, shipped_units=9, ordered=INVOICE.total, captured=INVOICE.total - 1),
    ],
)
def test_difference_of_one_unit_or_penny_is_reported(wrong: Totals) -> None:
    """One unit or penny more or less in any service's records is reported, and the replay is
    incomplete.
    """
    assert not report.complete(replayed("delivered", totals=wrong))
    assert (
        list(report.summary(replayed("delivered", totals=wrong)))[-1]
        == "  The file and the services' totals differ."
    )


def test_undelivered_orders_are_counted_and_listed() -> None:
    """Orders are counted by their end, and each undelivered one is named."""
    reported = "\n".join(report.lines(replayed("delivered", "cancelled", "delivered")))
    assert "2 of 3 orders delivered" in reported
    assert "  orders   2 delivered, 1 cancelled" in reported
    assert "  invoice 1: cancelled" in reported
    assert not report.complete(replayed("delivered", "cancelled"))


def test_finished_invoice_is_one_line() -> None:
    """In a pipe each invoice is a line, with the progress of the whole."""
    assert (
        line(Walked(INVOICE, Purchase(outcome="delivered")), 7, 62)
        == " 7/62  536365        9 units      49.71 GBP  delivered"
    )


# --- credit notes

PLAIN = replace(INVOICE, number="1", discount=0)
CREDITS = (
    Credit(note="C1", invoice=PLAIN, lines=((1, 2), (2, 1)), rows=2),
    Credit(note="C2", invoice=PLAIN, lines=((1, 1),), rows=1),
    Credit(note="C3", invoice=FREE, lines=((1, 56),), rows=1),
)
CREDITED = Ledger(invoices=(PLAIN, FREE), unused=(), rows=10, credits=CREDITS)


async def test_credited_units_are_returned_and_refunded() -> None:
    """Every credit is returned, restocked and refunded to the unit and the penny; the report counts
    rows, units and money.
    """
    shop = Shop()
    done, _ = await run(shop, CREDITED)
    assert [each.outcome for walked in done.walked for each in walked.returned] == ["closed"] * 3
    assert (done.totals.returned_units, done.totals.restocked_units) == (60, 60)
    assert done.totals.refunded == done.totals.worth == 3 * 255 + 765
    assert report.complete(done)
    reported = list(report.lines(done))
    assert reported[2] == "  rows     10 in the file: 6 in orders, 4 in returns, 0 left out"
    assert reported[-3:] == [
        "  returns  3 closed",
        "  units    60 in the file's credits: 60 returned, 60 restocked",
        "  money    15.30 GBP in the file's credits: 15.30 GBP refunded",
    ]
    walked = next(walked for walked in done.walked if walked.invoice is FREE)
    assert line(walked, 1, 2).endswith("delivered, 56 units back: closed")


async def test_second_replay_returns_nothing_again() -> None:
    """A second replay finds the orders and the returns, also of a fully returned order. Under a
    label all of them are new.
    """
    invoice = replace(PLAIN, postage=0)
    credit = Credit(note="C1", invoice=invoice, lines=((1, 6), (2, 2), (3, 1)), rows=1)
    whole = Ledger(invoices=(invoice,), unused=(), rows=4, credits=(credit,))
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


async def test_discount_is_not_given_twice() -> None:
    """Units of a discounted invoice are refunded at the paid amount, and the report shows the
    rest.
    """
    shop = Shop()
    done, _ = await run(
        shop,
        Ledger(
            invoices=(INVOICE,),
            unused=(),
            rows=6,
            credits=(Credit(note="C1", invoice=INVOICE, lines=((1, 1),), rows=1),),
        ),
    )
    assert done.totals.refunded == 255 - 99
    assert report.complete(done)
    reported = list(report.lines(done))[-1]
    assert (
        reported == "  money    2.55 GBP in the file's credits (0.99 GBP of it was never paid, by"
        " discounts): 1.56 GBP refunded"
    )


@pytest.mark.parametrize("wrong", ["returned_units", "restocked_units", "refunded", "worth"])
async def test_difference_in_the_returns_is_reported(wrong: str) -> None:
    """One unit or penny more in any service's records of returns is reported, and the replay is
    incomplete.
    """
    done, _ = await run(Shop(), CREDITED)
    totals = replace(done.totals, **{wrong: getattr(done.totals, wrong) + 1})
    assert not report.complete(replace(done, totals=totals))
    assert (
        list(report.summary(replace(done, totals=totals)))[-1]
        == "  The file and the services' totals differ."
    )


async def test_open_and_refused_returns_are_reported() -> None:
    """A refused return, one that stops, and one whose order was not delivered are each named, and
    the replay is incomplete.
    """
    shop = Shop()
    shop.failures["CreateReturn"] = [Refused("RETURN_EXCEEDS_DELIVERED", "too many")]
    done, _ = await run(shop, Ledger(invoices=(PLAIN,), unused=(), rows=6, credits=CREDITS[:2]))
    assert "  credit note C1 of invoice 1: refused: RETURN_EXCEEDS_DELIVERED: too many" in list(
        report.lines(done)
    )
    assert "  returns  1 refused, 1 closed" in list(report.lines(done))
    assert not report.complete(done)

    shop = Shop()
    shop.unrefunded = True
    done, _ = await run(
        shop, Ledger(invoices=(PLAIN,), unused=(), rows=6, credits=CREDITS[:1]), wait_s=0.5
    )
    [stuck] = [each for walked in done.walked for each in walked.returned]
    assert (stuck.outcome, "the return is inspected" in stuck.why) == ("stuck", True)

    shop = Shop()
    shop.failures["CreateOrder"] = [Refused("INSUFFICIENT_STOCK")]
    done, _ = await run(shop, Ledger(invoices=(PLAIN,), unused=(), rows=6, credits=CREDITS[:1]))
    assert "  credit note C1 of invoice 1: refused: its order did not arrive" in list(
        report.lines(done)
    )
    assert not shop.sent_back


async def test_recalled_parcel_is_returned_and_received(eventually: Eventually) -> None:
    """The carrier brings a recalled parcel back. The staff then receive the unannounced goods."""
    shop = Shop()
    world = World(shop, all_orders=True)
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
    shop.sent_back = {each.return_id: each for each in shop.sent_back.values()}
    async with living(world):
        [order_return] = shop.sent_back.values()
        await eventually(lambda: order_return.status == return_pb2.RETURN_STATUS_INSPECTED)
    assert parcel.status == shipping_pb2.SHIPMENT_STATUS_RETURNED_TO_SENDER
    assert order_return.lines[0].passed_quantity == 2
    assert not shop.refunded[ORDER_ID]


async def test_goods_in_transit_are_not_received(eventually: Eventually) -> None:
    """The staff receive nothing while a parcel is in transit, and never the returns that a customer
    announced to others.
    """
    shop = Shop()
    world = World(shop, all_orders=True)
    waiting = shipment("created")  # recalled, without an answer of the carrier
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
    assert {each.status for each in shop.sent_back.values()} == {return_pb2.RETURN_STATUS_APPROVED}
    assert not shop.calls["RecordTrackingEvent"]
