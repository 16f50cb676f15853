"""The nouns: what lies on the shelves, what is held for orders, what may be asked, and the picture
that the commands of one write share.

stock.py      stock levels, and the ledger's rows
held.py       reservations, their units, and what has left and come back
commands.py   what may be asked of the warehouse, or told to it
picture.py    what one decision sees, and what the commands of one write share
lists.py      filters
"""

from warehouse_svc.model.commands import (
    AdjustStock,
    BookReturn,
    Command,
    ConfirmReservations,
    EndAttempt,
    ExpireReservations,
    FollowWork,
    KeepUnits,
    LeftAfterVoid,
    ReceiveStock,
    ReleaseReservations,
    RenewReservations,
    ReplaceSpoiled,
    ReserveStock,
    SpoiledLine,
    StockCommand,
    WorkLine,
)
from warehouse_svc.model.held import (
    Back,
    Holding,
    Lapsed,
    OrderLine,
    Reservation,
    ReservationChanged,
    ReservationLine,
    WantedLine,
)
from warehouse_svc.model.lists import (
    Availability,
    LevelFilter,
    MovementFilter,
    ReservationFilter,
)
from warehouse_svc.model.picture import (
    Booked,
    Picture,
    View,
)
from warehouse_svc.model.stock import (
    BALANCE_MAX,
    LEVELS,
    Movement,
    Place,
    StockChanged,
    StockLevel,
    derived_id,
    level_id,
)

__all__ = [
    "BALANCE_MAX",
    "LEVELS",
    "AdjustStock",
    "Availability",
    "Back",
    "BookReturn",
    "Booked",
    "Command",
    "ConfirmReservations",
    "EndAttempt",
    "ExpireReservations",
    "FollowWork",
    "Holding",
    "KeepUnits",
    "Lapsed",
    "LeftAfterVoid",
    "LevelFilter",
    "Movement",
    "MovementFilter",
    "OrderLine",
    "Picture",
    "Place",
    "ReceiveStock",
    "ReleaseReservations",
    "RenewReservations",
    "ReplaceSpoiled",
    "Reservation",
    "ReservationChanged",
    "ReservationFilter",
    "ReservationLine",
    "ReserveStock",
    "SpoiledLine",
    "StockChanged",
    "StockCommand",
    "StockLevel",
    "View",
    "WantedLine",
    "WorkLine",
    "derived_id",
    "level_id",
]
