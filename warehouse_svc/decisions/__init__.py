"""The verbs: what a command makes of stock and of what is held for an order. Pure: no I/O, no
clock, no chance.

stock.py           receive, adjust
reservations.py    reserve, renew, confirm, release, expire, units cancelled, and the end of an
                   attempt
work.py            what fulfilment reports: units shipped, back on the shelf, not found, spoiled;
                   and spoiled ones replaced
returns.py         what returns bring back
sourcing.py        which warehouses serve an order
books.py           balances, units, ledger and facts, moved together
"""

from datetime import datetime

from warehouse_svc.decisions import reservations, returns, stock, work
from warehouse_svc.decisions.books import Decided
from warehouse_svc.decisions.reservations import WAREHOUSES_MAX, due_for_renewal
from warehouse_svc.model import (
    AdjustStock,
    BookReturn,
    ConfirmReservations,
    EndAttempt,
    ExpireReservations,
    FollowWork,
    KeepUnits,
    ReceiveStock,
    ReleaseReservations,
    RenewReservations,
    ReplaceSpoiled,
    ReserveStock,
    StockCommand,
    View,
)

__all__ = ["WAREHOUSES_MAX", "Decided", "decide", "due_for_renewal"]


def decide(view: View | None, command: StockCommand, now: datetime) -> Decided:
    """What the command makes of what it sees; `now` is the database's clock. Raises the Failure
    where it is not done.
    """
    view = view or View({})
    match command:
        case ReceiveStock():
            return stock.receive(view, command, now)
        case AdjustStock():
            return stock.adjust(view, command, now)
        case ReserveStock():
            return reservations.reserve(view, command, now)
        case RenewReservations():
            return reservations.renew(view, command, now)
        case ConfirmReservations():
            return reservations.confirm(view, command, now)
        case ReleaseReservations():
            return reservations.release(view, command, now)
        case ExpireReservations():
            return reservations.expire(view, command, now)
        case EndAttempt():
            return reservations.end(view, command, now)
        case KeepUnits():
            return reservations.keep(view, command, now)
        case FollowWork():
            return work.follow(view, command, now)
        case ReplaceSpoiled():
            return work.replace_spoiled(view, command, now)
        case BookReturn():
            return returns.book(view, command, now)
