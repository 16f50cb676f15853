"""All the SQL, for sets, over one connection.

orders.py   orders, their lines, fulfilments, history and recipients
returns.py  their returns, with lines and history
"""

from order_svc.store.orders import (
    count_commit_pending_orders,
    count_lines_of,
    find_expired,
    find_orders,
    find_recipient,
    holder_of_reference,
    list_history,
    list_orders,
    lock_orders,
    order_of_checkout,
    save_orders,
    update_times,
)
from order_svc.store.returns import find_returns, list_return_history, list_returns, order_of_return

__all__ = [
    "count_commit_pending_orders",
    "count_lines_of",
    "find_expired",
    "find_orders",
    "find_recipient",
    "find_returns",
    "holder_of_reference",
    "list_history",
    "list_orders",
    "list_return_history",
    "list_returns",
    "lock_orders",
    "order_of_checkout",
    "order_of_return",
    "save_orders",
    "update_times",
]
