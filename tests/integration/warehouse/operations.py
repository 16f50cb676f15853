"""The writer and the operations of a warehouse service over one database. No tests here."""

from collections.abc import Callable
from typing import Any

from chassis.write.database import Database
from chassis.write.writer import Writer
from warehouse_svc.decisions.deciders import decide
from warehouse_svc.decisions.posting import Decided
from warehouse_svc.operations.fulfillment import FulfillmentOperations
from warehouse_svc.operations.reservations import ReservationOperations
from warehouse_svc.operations.returns import ReturnOperations
from warehouse_svc.operations.stock import StockOperations
from warehouse_svc.store.workspace import lock_stock, save_stock


class Operations:
    """What app.py builds."""

    def __init__(self, database: Database, decide: Callable[..., Decided] = decide) -> None:
        self.database = database
        self.writer: Writer[Any] = Writer(database, load=lock_stock, decide=decide, save=save_stock)
        self.stock = StockOperations(database, self.writer)
        self.reservations = ReservationOperations(database, self.writer)
        self.returns = ReturnOperations(self.writer)
        self.fulfillment = FulfillmentOperations(self.writer)
