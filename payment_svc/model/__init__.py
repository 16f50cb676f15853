"""The nouns: the account of an order, its payments and what was asked of processors for them;
commands, answers, facts; pure rules.

records.py   the account, its payments and operations, their history and facts
commands.py  the requests of callers, and the commands
answers.py   what a processor answers and reports
lists.py     what lists show
excerpt.py   the operations that a payment's answer holds
"""

from payment_svc.model.answers import (
    AUTHORIZATION_EXPIRED,
    METHOD_INVALID,
    NOT_PROCESSED,
    NOTHING_REFUNDABLE,
    UNCOUNTED,
    Answer,
    Awaited,
    Declined,
    Report,
    Succeeded,
    digest_of,
)
from payment_svc.model.commands import (
    AskAgain,
    CapturePayment,
    CaptureRequest,
    CreatePayment,
    CreateRequest,
    LoseAnswer,
    NewOperation,
    NoteOrder,
    OfOperation,
    RefundPayment,
    RefundRequest,
    RefundReturn,
    Request,
    ResolveContradiction,
    Settle,
    VoidPayment,
)
from payment_svc.model.excerpt import excerpt
from payment_svc.model.lists import (
    PaymentFilter,
    RefundFilter,
)
from payment_svc.model.records import (
    Account,
    Change,
    Confirmed,
    Contradiction,
    Fact,
    Failed,
    Operation,
    Order,
    Payment,
    Refund,
    RefundSettled,
    StatusChanged,
)

__all__ = [
    "AUTHORIZATION_EXPIRED",
    "METHOD_INVALID",
    "NOTHING_REFUNDABLE",
    "NOT_PROCESSED",
    "UNCOUNTED",
    "Account",
    "Answer",
    "AskAgain",
    "Awaited",
    "CapturePayment",
    "CaptureRequest",
    "Change",
    "Confirmed",
    "Contradiction",
    "CreatePayment",
    "CreateRequest",
    "Declined",
    "Fact",
    "Failed",
    "LoseAnswer",
    "NewOperation",
    "NoteOrder",
    "OfOperation",
    "Operation",
    "Order",
    "Payment",
    "PaymentFilter",
    "Refund",
    "RefundFilter",
    "RefundPayment",
    "RefundRequest",
    "RefundReturn",
    "RefundSettled",
    "Report",
    "Request",
    "ResolveContradiction",
    "Settle",
    "StatusChanged",
    "Succeeded",
    "VoidPayment",
    "digest_of",
    "excerpt",
]
