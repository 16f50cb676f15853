"""The table of accounts: a row for each order, and the load of an account with its payments."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.money import Money
from chassis.write.rows import column_arrays
from chassis.write.tables import insert_rows, is_any_of, update_rows
from payment_svc.model.records import Account, Order, Payment
from payment_svc.store.payments import load_payments, read_payments
from payment_svc.tables import accounts

lock_accounts_by_id = (
    select(accounts)
    .where(is_any_of(accounts.c.order_id))
    .order_by(accounts.c.order_id)
    .with_for_update(key_share=True)
)
read_accounts = select(accounts).where(is_any_of(accounts.c.order_id))
# An account that is new to two writes at once must fail in one of them: no upsert here.
insert_accounts = insert_rows(*accounts.c)
update_accounts = update_rows(*accounts.c)


async def find_account(connection: AsyncConnection, order_id: UUID) -> Account | None:
    """The account as it stands, unlocked."""
    found = await load_accounts(connection, read_accounts, [order_id])
    return found[0] if found else None


async def load_accounts(
    connection: AsyncConnection, statement: Select[Any], order_ids: Iterable[UUID]
) -> list[Account]:
    """The accounts that the statement finds, with their payments and operations."""
    ids = column_arrays(order_id=order_ids)
    found = list(await connection.execute(statement, ids))
    of_order: defaultdict[UUID, list[Payment]] = defaultdict(list)
    for payment in await load_payments(connection, read_payments, ids) if found else []:
        of_order[payment.order_id].append(payment)
    return [
        Account(
            Order(
                id=row.order_id,
                version=row.version,
                attempt=row.attempt,
                status=row.status,
                total=Money(row.total, row.currency),
            ),
            tuple(of_order[row.order_id]),
        )
        for row in found
    ]


def order_row(order: Order) -> dict[str, Any]:
    return {
        "order_id": order.id,
        "version": order.version,
        "attempt": order.attempt,
        "status": order.status,
        "total": order.total.minor,
        "currency": order.total.currency,
    }
