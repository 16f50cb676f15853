"""The table of deciders, one for each command, and the rules that several have in common."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar

from chassis.values.decision import Decision
from chassis.values.envelope import Context, Decider, decider
from chassis.values.errors import NotFound
from order_svc.decisions.cancelling import cancel, cancel_items, expire, retry
from order_svc.decisions.following import (
    apply_fulfillment_status,
    apply_reservation,
    apply_shipment,
    apply_shipment_outcome,
    with_recalls,
)
from order_svc.decisions.paying import apply_refund, confirm, fail
from order_svc.decisions.placing import place
from order_svc.decisions.returning import (
    create,
    inspect,
    move,
    receive,
    refund_without_goods,
)
from order_svc.decisions.steps import Decided
from order_svc.model.commands import (
    ApplyFulfillmentStatus,
    ApplyRefund,
    ApplyReservation,
    ApplyShipment,
    ApplyShipmentOutcome,
    AttemptReport,
    CancelItems,
    CancelOrder,
    ConfirmPayment,
    CreateReturn,
    ExpireOrder,
    FailPayment,
    InspectReturn,
    MoveReturn,
    PlaceOrder,
    ReceiveReturn,
    RefundWithoutGoods,
    RetryOrder,
)
from order_svc.model.records import Order, Row

C = TypeVar("C")
N = TypeVar("N", bound=AttemptReport)
OrderDecider = Decider[Order, Row]
Table = Mapping[type[Any], OrderDecider]


def of_order(verb: Callable[[Order, C, Context], Decided]) -> OrderDecider:
    """Returns the decider of a command about an order that exists.

    The decider raises NotFound ORDER_NOT_FOUND.
    """

    @wraps(verb)
    def decide(order: Order | None, command: C, context: Context) -> Decided:
        if order is None:
            text = f"There is no order {context.target}."
            raise NotFound("ORDER_NOT_FOUND", text, order_id=str(context.target))
        return verb(order, command, context)

    return decide


def of_attempt(verb: Callable[[Order, N, Context], Decided]) -> OrderDecider:
    """Returns the decider of a report about one attempt: it skips a report about another one."""

    @wraps(verb)
    def decide(order: Order, command: N, context: Context) -> Decided:
        if command.attempt != order.attempt:
            return Decision(order)
        return verb(order, command, context)

    return of_order(decide)


def with_consequences(verb: OrderDecider) -> OrderDecider:
    """Returns the decider with what follows from every change of an order.

    Units that left a warehouse and are cancelled are recalled.
    """

    @wraps(verb)
    def decide(order: Order | None, command: Any, context: Context) -> Decided:
        return with_recalls(verb(order, command, context), context)

    return decide


VERBS: Final[Table] = {
    PlaceOrder: place,
    CancelOrder: of_order(cancel),
    CancelItems: of_order(cancel_items),
    RetryOrder: of_order(retry),
    ExpireOrder: of_order(expire),
    ConfirmPayment: of_attempt(confirm),
    FailPayment: of_attempt(fail),
    ApplyRefund: of_attempt(apply_refund),
    ApplyFulfillmentStatus: of_attempt(apply_fulfillment_status),
    ApplyShipment: of_attempt(apply_shipment),
    ApplyShipmentOutcome: of_attempt(apply_shipment_outcome),
    ApplyReservation: of_attempt(apply_reservation),
    CreateReturn: of_order(create),
    RefundWithoutGoods: of_order(refund_without_goods),
    MoveReturn: of_order(move),
    ReceiveReturn: of_order(receive),
    InspectReturn: of_order(inspect),
}
DECIDERS: Final[Table] = {kind: with_consequences(verb) for kind, verb in VERBS.items()}

decide = decider(DECIDERS)
