"""The records, commands, domain events and filters of the warehouse service.

stock.py          stock levels, and the rows of the ledger
reservations.py   reservations, their units, and the shipped and returned units of order lines
commands.py       the commands
workspace.py      the record that a decider works on, and the workspace of a set of commands
filters.py        filters of lists
"""

from warehouse_svc.model.commands import (
    AdjustStock,
    ApplyAllocations,
    ApplyFulfillment,
    CloseAttempt,
    ConfirmReservations,
    ExpireReservations,
    FulfillmentLine,
    LeftAfterVoid,
    PostReturn,
    ReceiveStock,
    ReleaseReservations,
    RenewReservations,
    ReplaceSpoiled,
    ReserveStock,
    SpoiledLine,
)
from warehouse_svc.model.filters import (
    Availability,
    LevelFilter,
    MovementFilter,
    ReservationFilter,
)
from warehouse_svc.model.reservations import (
    OrderLine,
    OrderReservations,
    OverdueReservation,
    Reservation,
    ReservationChanged,
    ReservationLine,
    ReturnedUnits,
    WantedLine,
)
from warehouse_svc.model.stock import (
    BALANCE_MAX,
    LEVEL_NAMESPACE,
    Movement,
    Place,
    StockChanged,
    StockLevel,
    level_id,
)
from warehouse_svc.model.workspace import (
    OrderStock,
    PostedUnits,
    Workspace,
)

__all__ = [
    "BALANCE_MAX",
    "LEVEL_NAMESPACE",
    "AdjustStock",
    "ApplyAllocations",
    "ApplyFulfillment",
    "Availability",
    "CloseAttempt",
    "ConfirmReservations",
    "ExpireReservations",
    "FulfillmentLine",
    "LeftAfterVoid",
    "LevelFilter",
    "Movement",
    "MovementFilter",
    "OrderLine",
    "OrderReservations",
    "OrderStock",
    "OverdueReservation",
    "Place",
    "PostReturn",
    "PostedUnits",
    "ReceiveStock",
    "ReleaseReservations",
    "RenewReservations",
    "ReplaceSpoiled",
    "Reservation",
    "ReservationChanged",
    "ReservationFilter",
    "ReservationLine",
    "ReserveStock",
    "ReturnedUnits",
    "SpoiledLine",
    "StockChanged",
    "StockLevel",
    "WantedLine",
    "Workspace",
    "level_id",
]
