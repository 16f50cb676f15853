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
from order_svc.decisions.inspections import inspect, refund_without_goods
from order_svc.decisions.payments import apply_reservation, cancel_unpaid, confirm
from order_svc.decisions.recalls import with_recalls
from order_svc.decisions.refunds import apply_refund
from order_svc.decisions.returns import create, move, receive
from order_svc.decisions.transitions import OrderDecider, for_existing_order
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
    RetryOrder: for_existing_order(retry),
    CancelOrder: with_recalls(for_existing_order(cancel)),
    CancelItems: with_recalls(for_existing_order(cancel_items)),
    ExpireOrder: for_existing_order(expire),
    ConfirmPayment: for_existing_order(confirm),
    FailPayment: for_existing_order(cancel_unpaid),
    ApplyReservation: with_recalls(for_existing_order(apply_reservation)),
    ApplyRefund: for_existing_order(apply_refund),
    ApplyFulfillmentStatus: with_recalls(for_existing_order(apply_fulfillment_status)),
    ApplyShipment: with_recalls(for_existing_order(apply_shipment)),
    ApplyShipmentOutcome: with_recalls(for_existing_order(apply_shipment_outcome)),
    CreateReturn: for_existing_order(create),
    RefundWithoutGoods: for_existing_order(refund_without_goods),
    MoveReturn: for_existing_order(move),
    ReceiveReturn: for_existing_order(receive),
    InspectReturn: for_existing_order(inspect),
}

decide = decider(DECIDERS)
