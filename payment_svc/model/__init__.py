"""The payment account of an order, its payments and operations; commands, answers, domain events.

records.py   the payment account, its payments and operations, their history
events.py    the domain events
commands.py  the requests of callers, and the commands
answers.py   the answers and reports of processors
filters.py   the filters of lists
excerpt.py   the operations that a payment's response holds
"""

from payment_svc.model.answers import (
    AUTHORIZATION_EXPIRED,
    METHOD_INVALID,
    NOT_PROCESSED,
    NOTHING_REFUNDABLE,
    UNCOUNTED_CODES,
    Answer,
    Declined,
    Pending,
    Report,
    Succeeded,
    answer_hash,
)
from payment_svc.model.commands import (
    ApplyOrderVersion,
    CapturePayment,
    CaptureRequest,
    CreatePayment,
    CreateRequest,
    NewOperation,
    OperationCommand,
    PaymentRequest,
    RecordUnknownOutcome,
    RefundPayment,
    RefundRequest,
    RefundReturn,
    ResolveContradiction,
    RetryLookup,
    Settle,
    VoidPayment,
)
from payment_svc.model.events import (
    DomainEvent,
    PaymentConfirmed,
    PaymentFailed,
    PaymentStatusChanged,
    RefundSettled,
)
from payment_svc.model.excerpt import excerpt
from payment_svc.model.filters import (
    PaymentFilter,
    RefundFilter,
)
from payment_svc.model.records import (
    Account,
    Contradiction,
    Operation,
    Order,
    Payment,
    Refund,
    Transition,
)

__all__ = [
    "AUTHORIZATION_EXPIRED",
    "METHOD_INVALID",
    "NOTHING_REFUNDABLE",
    "NOT_PROCESSED",
    "UNCOUNTED_CODES",
    "Account",
    "Answer",
    "ApplyOrderVersion",
    "CapturePayment",
    "CaptureRequest",
    "Contradiction",
    "CreatePayment",
    "CreateRequest",
    "Declined",
    "DomainEvent",
    "NewOperation",
    "Operation",
    "OperationCommand",
    "Order",
    "Payment",
    "PaymentConfirmed",
    "PaymentFailed",
    "PaymentFilter",
    "PaymentRequest",
    "PaymentStatusChanged",
    "Pending",
    "RecordUnknownOutcome",
    "Refund",
    "RefundFilter",
    "RefundPayment",
    "RefundRequest",
    "RefundReturn",
    "RefundSettled",
    "Report",
    "ResolveContradiction",
    "RetryLookup",
    "Settle",
    "Succeeded",
    "Transition",
    "VoidPayment",
    "answer_hash",
    "excerpt",
]
