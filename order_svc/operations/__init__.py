"""What the order service does: one method for each thing. A peer is asked before the write, for the
whole set at once.

orders.py     orders: placed, paid, cancelled, tried again, expired; what is heard of them; lists
              and watches
returns.py    their returns
releasing.py  stock of orders that have ended, given up at the warehouse
"""

from order_svc.operations.orders import Operations
from order_svc.operations.returns import ReturnOperations

__all__ = ["Operations", "ReturnOperations"]
