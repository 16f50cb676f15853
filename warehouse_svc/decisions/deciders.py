"""The table of deciders, one for each command."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar

from chassis.values.envelope import Context, Decider, decider
from warehouse_svc.decisions.fulfillment import apply_fulfillment, replace_spoiled
from warehouse_svc.decisions.posting import Decided
from warehouse_svc.decisions.reservations import (
    apply_allocations,
    close_attempt,
    confirm,
    expire,
    release,
    renew,
    reserve,
)
from warehouse_svc.decisions.returns import post_return
from warehouse_svc.decisions.stock import adjust, receive
from warehouse_svc.model.commands import (
    AdjustStock,
    ApplyAllocations,
    ApplyFulfillment,
    CloseAttempt,
    ConfirmReservations,
    ExpireReservations,
    PostReturn,
    ReceiveStock,
    ReleaseReservations,
    RenewReservations,
    ReplaceSpoiled,
    ReserveStock,
)
from warehouse_svc.model.records import Movement, OrderStock

C = TypeVar("C")


def with_record(
    function: Callable[[OrderStock, C, Context], Decided],
) -> Decider[OrderStock, Movement]:
    """Returns the decider that calls `function`, with an empty record where there is none."""

    @wraps(function)
    def decide(record: OrderStock | None, command: C, context: Context) -> Decided:
        return function(record or OrderStock({}), command, context)

    return decide


DECIDERS: Final[Mapping[type[Any], Decider[OrderStock, Movement]]] = {
    ReceiveStock: with_record(receive),
    AdjustStock: with_record(adjust),
    ReserveStock: with_record(reserve),
    RenewReservations: with_record(renew),
    ConfirmReservations: with_record(confirm),
    ReleaseReservations: with_record(release),
    ExpireReservations: with_record(expire),
    CloseAttempt: with_record(close_attempt),
    ApplyAllocations: with_record(apply_allocations),
    ApplyFulfillment: with_record(apply_fulfillment),
    ReplaceSpoiled: with_record(replace_spoiled),
    PostReturn: with_record(post_return),
}

decide = decider(DECIDERS)
