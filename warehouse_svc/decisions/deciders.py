"""The table of deciders, one for each command."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from chassis.values.envelope import Context, decider
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

# The workspace has a record for every target.
DECIDERS: Final[Mapping[type[Any], Callable[[Any, Any, Context], Decided]]] = {
    ReceiveStock: receive,
    AdjustStock: adjust,
    ReserveStock: reserve,
    RenewReservations: renew,
    ConfirmReservations: confirm,
    ReleaseReservations: release,
    ExpireReservations: expire,
    CloseAttempt: close_attempt,
    ApplyAllocations: apply_allocations,
    ApplyFulfillment: apply_fulfillment,
    ReplaceSpoiled: replace_spoiled,
    PostReturn: post_return,
}

decide = decider(DECIDERS)
