"""All the SQL of payments, for sets, over one connection."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Table,
    bindparam,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.values.envelope import Envelope
from chassis.values.money import Money
from chassis.values.paging import Page
from chassis.write.rows import RecordRows, column_arrays, row_arrays
from chassis.write.tables import insert_rows, is_any_of, unnest_rows
from chassis.write.workspace import Workspace
from payment_svc.lifecycle import REFUND_STATUS, Kind
from payment_svc.model.filters import PaymentFilter, RefundFilter
from payment_svc.model.records import (
    Account,
    Contradiction,
    Operation,
    Order,
    Payment,
    Refund,
    Transition,
)
from payment_svc.tables import (
    accounts,
    contradictions,
    history,
    operations,
    payments,
    refund_update_time,
)

PAYMENT = RecordRows(
    Payment,
    payments.c,
    loaded=["operations"],
    derived=["authorized", "captured", "refunded", "refund_pending", "decline_code"],
)
OPERATION = RecordRows(Operation, operations.c, keys=["payment_id"], loaded=["contradictions"])
CONTRADICTION = RecordRows(Contradiction, contradictions.c, keys=["operation_id"])
TRANSITION = RecordRows(Transition, history.c)
PAYMENT_COLUMNS = ("order_id", "attempt", "currency")
REFUND_COLUMNS = [
    (payments if each.name in PAYMENT_COLUMNS else operations).c[each.name]
    for each in fields(Refund)
]
REFUND = RecordRows(Refund, REFUND_COLUMNS)

lock_accounts_by_id = (
    select(accounts)
    .where(is_any_of(accounts.c.order_id))
    .order_by(accounts.c.order_id)
    .with_for_update(key_share=True)
)
read_accounts = select(accounts).where(is_any_of(accounts.c.order_id))
read_payments = select(payments).where(is_any_of(payments.c.order_id)).order_by(payments.c.id)
# A row for each contradiction of an operation, or one where there is none.
read_operations = (
    select(
        operations,
        *(c.label(f"contradiction_{c.name}") for c in contradictions.c if c.name != "operation_id"),
    )
    .outerjoin(contradictions)
    .where(is_any_of(operations.c.payment_id))
    .order_by(
        operations.c.request_time,
        operations.c.id,
        contradictions.c.report_time,
        contradictions.c.id,
    )
)
read_payment = select(payments).where(payments.c.id == bindparam("payment_id"))
read_order_of_operation = (
    select(payments.c.order_id).join(operations).where(operations.c.id == bindparam("operation_id"))
)
read_due = (
    select(payments.c.order_id, operations.c.id, operations.c.lookups)
    .join(operations)
    .where(operations.c.next_lookup_time <= func.clock_timestamp())
    .order_by(operations.c.next_lookup_time)
    .limit(bindparam("limit"))
)
read_refunds = (
    select(*REFUND_COLUMNS)
    .join_from(operations, payments)
    .where(operations.c.kind == Kind.REFUND)
    .order_by(operations.c.request_time.desc(), operations.c.id.desc())
)
read_history = (
    select(history, operations.c.kind)
    .outerjoin_from(history, operations, history.c.operation_id == operations.c.id)
    .where(history.c.payment_id == bindparam("payment_id"))
    .where(history.c.version > bindparam("after", type_=BigInteger))
    .order_by(history.c.version)
    .limit(bindparam("limit"))
)
read_open_refunds = select(
    func.count(),
    func.coalesce(
        func.extract("epoch", func.clock_timestamp() - func.min(operations.c.request_time)), 0
    ),
).where(operations.c.next_lookup_time.is_not(None), operations.c.kind == Kind.REFUND)
count_open_contradictions = (
    select(func.count()).select_from(contradictions).where(contradictions.c.resolve_time.is_(None))
)


def upsert(table: Table) -> Insert:
    """Rows to come, new ones or in the place of those of the same primary key."""
    new = insert(table).from_select(list(table.c), select(*unnest_rows(*table.c).c))
    changing = {
        column.name: new.excluded[column.name] for column in table.c if not column.primary_key
    }
    return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=changing)


# An account that is new to two writes at once must fail in one of them: no upsert here.
insert_accounts, insert_history = insert_rows(*accounts.c), insert_rows(*history.c)
account_rows = unnest_rows(*accounts.c)
update_accounts = (
    update(accounts)
    .values({each.name: each for each in account_rows.c if each.name != "order_id"})
    .where(accounts.c.order_id == account_rows.c.order_id)
)
save_payments, save_operations, save_contradictions = (
    upsert(table) for table in (payments, operations, contradictions)
)


async def lock_accounts(
    connection: AsyncConnection,
    envelopes: Sequence[Envelope[Any]],
    repeats: Collection[UUID],
) -> Workspace[Account]:
    """The accounts of the targets, by the order's id.

    The locks of their rows guard their payments and operations too.
    """
    ids = {*repeats, *(each.target for each in envelopes)}
    found = await _load_accounts(connection, lock_accounts_by_id, ids)
    return Workspace({account.order.id: account for account in found})


async def save_accounts(
    connection: AsyncConnection,
    before: Mapping[UUID, Account],
    after: Mapping[UUID, Account],
    transitions: Sequence[Transition],
) -> None:
    """Stores what changed; new accounts sorted, or two sets of rivals may deadlock."""
    ordered = [after[order_id] for order_id in sorted(after)]
    if created := [a.order for a in ordered if a.order.id not in before]:
        await connection.execute(insert_accounts, row_arrays(list(map(_order_row, created))))
    if updated := [
        a.order for a in ordered if a.order.id in before and a.order is not before[a.order.id].order
    ]:
        await connection.execute(update_accounts, row_arrays(list(map(_order_row, updated))))
    known_payments = {id(p) for account in before.values() for p in account.payments}
    if changed_payments := [
        p for account in ordered for p in account.payments if id(p) not in known_payments
    ]:
        await connection.execute(save_payments, PAYMENT.arrays(changed_payments))
    known_operations = {
        id(o) for account in before.values() for p in account.payments for o in p.operations
    }
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


async def find_account(connection: AsyncConnection, order_id: UUID) -> Account | None:
    """The account as it stands, unlocked."""
    found = await _load_accounts(connection, read_accounts, [order_id])
    return found[0] if found else None


async def find_payment(connection: AsyncConnection, payment_id: UUID) -> Payment | None:
    found = await _load_payments(connection, read_payment, {"payment_id": payment_id})
    return found[0] if found else None


async def order_of_operation(connection: AsyncConnection, operation_id: UUID) -> UUID | None:
    return (
        await connection.execute(read_order_of_operation, {"operation_id": operation_id})
    ).scalar_one_or_none()


async def due_operations(connection: AsyncConnection, limit: int) -> list[tuple[UUID, UUID, int]]:
    """The operations that are due for a lookup: the order, the operation, the number of lookups so
    far. The longest due come first.
    """
    return [
        (order_id, id, lookups)
        for order_id, id, lookups in await connection.execute(read_due, {"limit": limit})
    ]


async def list_payments(
    connection: AsyncConnection, filters: PaymentFilter, page: Page
) -> list[Payment]:
    """The page's payments and one more where there are more, newest first."""
    conditions: list[ColumnElement[bool]] = (
        [payments.c.status.in_(filters.statuses)] if filters.statuses else []
    )
    conditions += _update_time_conditions(payments.c.update_time, filters)
    if filters.order_id:
        conditions.append(payments.c.order_id == filters.order_id)
    if filters.create_time_from:
        conditions.append(payments.c.create_time >= filters.create_time_from)
    if page.after:
        conditions.append(payments.c.id < page.after[0])
    statement = (
        select(payments).where(*conditions).order_by(payments.c.id.desc()).limit(page.size + 1)
    )
    return await _load_payments(connection, statement, {})


async def list_refunds(
    connection: AsyncConnection, filters: RefundFilter, page: Page
) -> list[Refund]:
    """The page's refunds and one more where there are more, newest first. A place in the list is
    (request_time, id).
    """
    outcomes = [outcome for outcome, status in REFUND_STATUS.items() if status in filters.statuses]
    conditions: list[ColumnElement[bool]] = [operations.c.outcome.in_(outcomes)] if outcomes else []
    conditions += _update_time_conditions(refund_update_time, filters)
    if filters.order_id:
        conditions.append(payments.c.order_id == filters.order_id)
    if filters.payment_id:
        conditions.append(operations.c.payment_id == filters.payment_id)
    if page.after:
        conditions.append(tuple_(operations.c.request_time, operations.c.id) < tuple_(*page.after))
    rows = await connection.execute(read_refunds.where(*conditions).limit(page.size + 1))
    return [REFUND.record(row) for row in rows]


async def list_history(
    connection: AsyncConnection, payment_id: UUID, page: Page
) -> list[tuple[Transition, Kind | None]]:
    """The page's rows of history and one more where there are more, oldest first.

    Each comes with its operation's kind.
    """
    after = page.after[0] if page.after else 0
    parameters = {"payment_id": payment_id, "after": after, "limit": page.size + 1}
    rows = await connection.execute(read_history, parameters)
    return [(TRANSITION.record(row), row.kind) for row in rows]


async def open_refunds(connection: AsyncConnection) -> tuple[int, float]:
    """How many refunds wait for the processor's answer, and the age of the oldest in seconds (0
    where there is none).
    """
    count, age_s = (await connection.execute(read_open_refunds)).one()
    return count, float(age_s)


async def open_contradictions(connection: AsyncConnection) -> int:
    """How many contradictions of processors no operator has resolved."""
    return int((await connection.execute(count_open_contradictions)).scalar_one())


async def _load_accounts(
    connection: AsyncConnection, statement: Select[Any], order_ids: Iterable[UUID]
) -> list[Account]:
    """The accounts that the statement finds, with their payments and operations."""
    ids = column_arrays(order_id=order_ids)
    found = list(await connection.execute(statement, ids))
    of_order: defaultdict[UUID, list[Payment]] = defaultdict(list)
    for payment in await _load_payments(connection, read_payments, ids) if found else []:
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


async def _load_payments(
    connection: AsyncConnection, statement: Select[Any], parameters: Mapping[str, Any]
) -> list[Payment]:
    """The payments that the statement finds, in its order, each with its operations, oldest
    first.
    """
    rows = list(await connection.execute(statement, parameters))
    if not rows:
        return []
    of_payment: defaultdict[UUID, dict[UUID, Operation]] = defaultdict(dict)
    payment_ids = column_arrays(payment_id=[row.id for row in rows])
    for row in await connection.execute(read_operations, payment_ids):
        operation = of_payment[row.payment_id].get(row.id) or OPERATION.record(row)
        if row.contradiction_id:
            contradiction = CONTRADICTION.record(row, "contradiction_")
            operation = replace(
                operation, contradictions=(*operation.contradictions, contradiction)
            )
        of_payment[row.payment_id][row.id] = operation
    return [PAYMENT.record(row, operations=tuple(of_payment[row.id].values())) for row in rows]


def _update_time_conditions(
    update_time: ColumnElement[Any], filters: PaymentFilter | RefundFilter
) -> list[ColumnElement[bool]]:
    """The conditions of the filter on the time of a record's last change."""
    conditions: list[ColumnElement[bool]] = []
    if filters.update_time_from:
        conditions.append(update_time >= filters.update_time_from)
    if filters.update_time_before:
        conditions.append(update_time < filters.update_time_before)
    return conditions


def _order_row(order: Order) -> dict[str, Any]:
    return {
        "order_id": order.id,
        "version": order.version,
        "attempt": order.attempt,
        "status": order.status,
        "total": order.total.minor,
        "currency": order.total.currency,
    }
