"""The columns of payments that are properties of the record."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.envelope import Envelope
from payment_svc.decisions.deciders import decide
from payment_svc.model.answers import Declined, Succeeded
from payment_svc.model.records import Account, Payment
from payment_svc.store.workspace import save_accounts
from payment_svc.tables import payments
from tests.support import property_columns
from tests.unit.payment.samples import (
    LATER,
    ORDER,
    account,
    capture,
    create,
    numbered,
    refund,
    settle,
    void,
)

CAPTURE, VOID, REFUND = (numbered(3, number) for number in (201, 301, 401))
CREATE = numbered(3, 1)
LIVES: dict[str, tuple[Envelope[Any], ...]] = {
    "refunded": (
        create(manual_capture=True),
        settle(Succeeded("auth"), CREATE, "s1"),
        capture(payment_id=numbered(2, 1)),
        settle(Succeeded("capture"), CAPTURE, "s2"),
        refund(1, 1_000, payment_id=numbered(2, 1)),
        settle(Declined("card_closed"), REFUND, "s3"),
        refund(2, payment_id=numbered(2, 1)),
        settle(Succeeded("refund"), numbered(3, 402), "s4"),
    ),
    "charged": (create(), settle(Succeeded("charge"), CREATE, "s1")),
    "declined": (create(), settle(Declined("insufficient_funds"), CREATE, "s1")),
    "voided": (
        create(manual_capture=True),
        settle(Succeeded("auth"), CREATE, "s1"),
        void(payment_id=numbered(2, 1)),
        settle(Succeeded("void"), VOID, "s2"),
    ),
}


@pytest.mark.parametrize("life", LIVES)
async def test_each_derived_column_equals_its_property(life: str, engine: AsyncEngine) -> None:
    """After each write of a payment's life its row has, in each column that is a property of the
    record, the value of the property. The life changes some of them.
    """
    names = property_columns(Payment, payments)
    seen = set()
    before: dict[Any, Account] = {}
    for command in LIVES[life]:
        decided = decide(before.get(ORDER, account()), command, LATER)
        assert decided.history, command
        after = {ORDER: decided.record}
        async with engine.begin() as connection:
            await save_accounts(connection, before, after, decided.history)
            row = (await connection.execute(select(payments))).one()._mapping
        [payment] = decided.record.payments
        assert {name: row[name] for name in names} == {n: getattr(payment, n) for n in names}
        seen.add(tuple(row[name] for name in names))
        before = after
    amounts = {"authorized", "captured", "refunded", "refund_pending"}
    assert set(names) == amounts | {"decline_code"}
    assert len(seen) > 1
