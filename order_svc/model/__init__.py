"""The nouns: the order and its parts, what may be asked of it, what is told of it; pure rules.

order.py      the order, its history, its facts, its prices
commands.py   what may be asked of it, or told to it
"""

from order_svc.model.commands import (
    Command,
    CommitAnswer,
    Committed,
    ConfirmPayment,
    FailPayment,
    NoteFulfillment,
    NoteReservation,
    NoteShipment,
    OrderCommand,
    Owed,
    PlaceOrder,
    Unavailable,
)
from order_svc.model.order import (
    Allocation,
    Allocations,
    Checkout,
    Line,
    Order,
    OrderFilter,
    Part,
    Recipient,
    Share,
    StatusChanged,
    Transition,
    WantedLine,
    number_of,
    priced,
)

__all__ = [
    "Allocation",
    "Allocations",
    "Checkout",
    "Command",
    "CommitAnswer",
    "Committed",
    "ConfirmPayment",
    "FailPayment",
    "Line",
    "NoteFulfillment",
    "NoteReservation",
    "NoteShipment",
    "Order",
    "OrderCommand",
    "OrderFilter",
    "Owed",
    "Part",
    "PlaceOrder",
    "Recipient",
    "Share",
    "StatusChanged",
    "Transition",
    "Unavailable",
    "WantedLine",
    "number_of",
    "priced",
]
