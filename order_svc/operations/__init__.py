"""What the order service does: one method for each thing. A peer is asked before the write, for the whole set at once."""

from order_svc.operations.orders import Operations
from order_svc.operations.returns import ReturnOperations

__all__ = ["Operations", "ReturnOperations"]
