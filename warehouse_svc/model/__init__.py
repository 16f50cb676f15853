"""The nouns: what lies on the shelves, what is held for orders, what may be asked, and the picture
that the commands of one write share.

stock.py      stock levels, and the ledger's rows
held.py       reservations, their units, and what has left and come back
commands.py   the commands
picture.py    what one decision sees, and what the commands of one write share
lists.py      filters
"""

from warehouse_svc.model.commands import (
    AdjustStock,
    BookReturn,
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
    "StockLevel",
    "View",
    "WantedLine",
    "WorkLine",
    "level_id",
]
