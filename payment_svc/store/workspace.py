"""Whole accounts, for a write: their lock and load for a set of commands, and their save."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.envelope import Envelope
from chassis.write.rows import row_arrays
from chassis.write.workspace import Workspace
from payment_svc.model.records import Account, Transition
from payment_svc.store.accounts import (
    insert_accounts,
    load_accounts,
    lock_accounts_by_id,
    order_row,
    update_accounts,
)
from payment_svc.store.history import TRANSITION, insert_history
from payment_svc.store.operations import (
    CONTRADICTION,
    OPERATION,
    save_contradictions,
    save_operations,
)
from payment_svc.store.payments import PAYMENT, save_payments


async def lock_accounts(
    connection: AsyncConnection,
    envelopes: Sequence[Envelope[Any]],
    repeats: Collection[UUID],
) -> Workspace[Account]:
    """The accounts of the targets, by the order's id.

    The locks of their rows guard their payments and operations too.
    """
    ids = {*repeats, *(each.target for each in envelopes)}
    found = await load_accounts(connection, lock_accounts_by_id, ids)
    return Workspace({account.order.id: account for account in found})


async def save_accounts(
    connection: AsyncConnection,
    before: Mapping[UUID, Account],
    after: Mapping[UUID, Account],
    transitions: Sequence[Transition],
) -> None:
    """Stores what changed; new accounts by their ids, or two concurrent writes may deadlock."""
    ordered = [after[order_id] for order_id in sorted(after)]
    if created := [a.order for a in ordered if a.order.id not in before]:
        await connection.execute(insert_accounts, row_arrays(list(map(order_row, created))))
    if updated := [
        a.order for a in ordered if a.order.id in before and a.order is not before[a.order.id].order
    ]:
        await connection.execute(update_accounts, row_arrays(list(map(order_row, updated))))
    payments_before = [p for account in before.values() for p in account.payments]
    known_payments = {id(p) for p in payments_before}
    if changed_payments := [
        p for account in ordered for p in account.payments if id(p) not in known_payments
    ]:
        await connection.execute(save_payments, PAYMENT.arrays(changed_payments))
    known_operations = {id(o) for p in payments_before for o in p.operations}
    if changed_operations := [
        (p.id, o) for p in changed_payments for o in p.operations if id(o) not in known_operations
    ]:
        rows = [OPERATION.row(o, payment_id=id) for id, o in changed_operations]
        await connection.execute(save_operations, row_arrays(rows))
        if reports := [
            CONTRADICTION.row(c, operation_id=o.id)
            for _, o in changed_operations
            for c in o.contradictions
        ]:
            await connection.execute(save_contradictions, row_arrays(reports))
    if transitions:
        await connection.execute(insert_history, TRANSITION.arrays(transitions))
