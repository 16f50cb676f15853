"""All the SQL, for sets, over one connection.

orders.py   orders, their lines, parts, history and recipients
"""

from order_svc.store.orders import (
    find_orders,
    find_recipient,
    list_history,
    list_orders,
    lock_orders,
    order_of_checkout,
    save_orders,
    versions,
)

__all__ = [
    "find_orders",
    "find_recipient",
    "list_history",
    "list_orders",
    "lock_orders",
    "order_of_checkout",
    "save_orders",
    "versions",
]
