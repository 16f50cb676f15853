"""The table of deciders, one for each command."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar

from chassis.values.envelope import Context, Decider, decider
from warehouse_svc.decisions.books import Decided
from warehouse_svc.decisions.reservations import confirm, end, expire, keep, release, renew, reserve
from warehouse_svc.decisions.returns import book
from warehouse_svc.decisions.stock import adjust, receive
from warehouse_svc.decisions.work import follow, replace_spoiled
from warehouse_svc.model import (
    AdjustStock,
    BookReturn,
    ConfirmReservations,
    EndAttempt,
    ExpireReservations,
    FollowWork,
    KeepUnits,
    Movement,
    ReceiveStock,
    ReleaseReservations,
    RenewReservations,
    ReplaceSpoiled,
    ReserveStock,
    View,
)

C = TypeVar("C")


def of_view(verb: Callable[[View, C, Context], Decided]) -> Decider[View, Movement]:
    """Returns the decider of a verb; without a view it decides over an empty one."""

    @wraps(verb)
    def decide(view: View | None, command: C, context: Context) -> Decided:
        return verb(view or View({}), command, context)

    return decide


DECIDERS: Final[Mapping[type[Any], Decider[View, Movement]]] = {
    ReceiveStock: of_view(receive),
    AdjustStock: of_view(adjust),
    ReserveStock: of_view(reserve),
    RenewReservations: of_view(renew),
    ConfirmReservations: of_view(confirm),
    ReleaseReservations: of_view(release),
    ExpireReservations: of_view(expire),
    EndAttempt: of_view(end),
    KeepUnits: of_view(keep),
    FollowWork: of_view(follow),
    ReplaceSpoiled: of_view(replace_spoiled),
    BookReturn: of_view(book),
}

decide = decider(DECIDERS)
