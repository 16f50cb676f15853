"""The table of deciders, one for each command."""

from collections.abc import Mapping
from typing import Any, Final

from chassis.values.envelope import decider
from order_svc.decisions.cancellation import cancel, cancel_items, expire
from order_svc.decisions.creation import place, retry
from order_svc.decisions.fulfillment import (
    apply_fulfillment_status,
    apply_shipment,
    apply_shipment_outcome,
)
from order_svc.decisions.inspection import inspect, refund_without_goods
from order_svc.decisions.payments import apply_reservation, cancel_unpaid, confirm
from order_svc.decisions.recalls import with_recalls
from order_svc.decisions.refunds import apply_refund
from order_svc.decisions.returns import create, move, receive
from order_svc.decisions.steps import OrderDecider, of_order
from order_svc.model.commands import (
    ApplyFulfillmentStatus,
    ApplyRefund,
    ApplyReservation,
    ApplyShipment,
    ApplyShipmentOutcome,
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

# The commands under `with_recalls` change which units remain, have shipped or are lost.
DECIDERS: Final[Mapping[type[Any], OrderDecider]] = {
    PlaceOrder: place,
    RetryOrder: of_order(retry),
    CancelOrder: with_recalls(of_order(cancel)),
    CancelItems: with_recalls(of_order(cancel_items)),
    ExpireOrder: of_order(expire),
    ConfirmPayment: of_order(confirm),
    FailPayment: of_order(cancel_unpaid),
    ApplyReservation: with_recalls(of_order(apply_reservation)),
    ApplyRefund: of_order(apply_refund),
    ApplyFulfillmentStatus: with_recalls(of_order(apply_fulfillment_status)),
    ApplyShipment: with_recalls(of_order(apply_shipment)),
    ApplyShipmentOutcome: with_recalls(of_order(apply_shipment_outcome)),
    CreateReturn: of_order(create),
    RefundWithoutGoods: of_order(refund_without_goods),
    MoveReturn: of_order(move),
    ReceiveReturn: of_order(receive),
    InspectReturn: of_order(inspect),
}

decide = decider(DECIDERS)
