"""The contract's enum values by those of the service, and the reverse."""

from ordermesh.warehouse.v1 import warehouse_pb2

from chassis.values.convert import enum_values
from warehouse_svc.lifecycle import MovementKind, Status

STATUS = enum_values(Status, "RESERVATION_STATUS", warehouse_pb2.ReservationStatus.Value)
KIND = enum_values(MovementKind, "STOCK_MOVEMENT_KIND", warehouse_pb2.StockMovementKind.Value)
STATUS_OF = {value: status for status, value in STATUS.items()}
KIND_OF = {value: kind for kind, value in KIND.items()}
