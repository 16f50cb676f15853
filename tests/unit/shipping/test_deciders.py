"""Commands about shipments that do not exist."""

from typing import Any

import pytest

from chassis.values.envelope import Envelope
from chassis.values.errors import NotFound
from shipping_svc.decisions.deciders import decide
from tests.unit.shipping.samples import (
    NOON,
    cancel_shipment,
    close_shipment,
    fail_label,
    record_label,
    record_recall_answer,
    report,
)


@pytest.mark.parametrize(
    "command",
    [
        record_label(),
        fail_label(),
        report("delivered"),
        cancel_shipment(),
        close_shipment(),
        record_recall_answer(),
    ],
    ids=lambda each: type(each.command).__name__,
)
def test_command_about_an_unknown_shipment_is_refused(command: Envelope[Any]) -> None:
    """Every command but CreateShipment needs a shipment."""
    with pytest.raises(NotFound) as refused:
        decide(None, command, NOON)
    assert refused.value.reason == "SHIPMENT_NOT_FOUND"
