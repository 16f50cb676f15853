"""Each defect of `tests.chaos.bugs` can be planted: the code that it replaces has the expected
name. `tests.chaos.prove` shows that a run finds each defect.
"""

import subprocess
import sys

import pytest

from order_svc.decisions.deciders import DECIDERS
from order_svc.lifecycle import FulfillmentState, Status
from order_svc.model.commands import ApplyFulfillmentStatus, ConfirmPayment
from tests.chaos.bugs import BUGS
from tests.chaos.connections import known_connections
from tests.chaos.plan import SERVICES, Kind
from tests.unit.order.samples import after, at, cancel, fulfillment_status, pay, placed

PLANT_ALL = "from tests.chaos.bugs import BUGS\nfor bug in BUGS.values(): bug.plant()"


def test_every_defect_can_be_planted() -> None:
    """Every defect replaces existing code. The test plants them in a separate process, which it
    discards.
    """
    planted = subprocess.run(
        [sys.executable, "-c", PLANT_ALL], capture_output=True, text=True, timeout=60, check=False
    )
    assert planted.returncode == 0, planted.stderr


@pytest.fixture
def order_deciders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores the order service's table of deciders after the test."""
    for kind in (ConfirmPayment, ApplyFulfillmentStatus):
        monkeypatch.setitem(DECIDERS, kind, DECIDERS[kind])


@pytest.mark.usefixtures("order_deciders")
def test_planted_revival_confirms_a_cancelled_order() -> None:
    """The order service takes the planted decider: without it, the order stays cancelled."""
    order = placed()
    cancelled = after(order, cancel(order))
    assert after(cancelled, pay(order)).status is Status.CANCELLED
    BUGS["revived"].plant()
    assert after(cancelled, pay(order)).status is Status.CONFIRMED


@pytest.mark.usefixtures("order_deciders")
def test_planted_old_news_overwrites_a_newer_version() -> None:
    """The order service takes the planted decider: without it, an older version is skipped."""
    order = at(Status.PROCESSING)
    old = fulfillment_status(
        order, "london", FulfillmentState.PLANNING, order.fulfillments[0].version - 1
    )
    assert after(order, old) is order
    BUGS["old_news"].plant()
    assert after(order, old).fulfillments[0].version == order.fulfillments[0].version - 1


def test_every_defect_names_services_faults_and_shoppers() -> None:
    """There are at least ten defects; each names existing services, existing faults, and shoppers
    that reach it.
    """
    assert len(BUGS) >= 10
    for bug in BUGS.values():
        assert set(bug.services) <= set(SERVICES)
        assert bug.scenarios()
        assert all(fault.kind in Kind and fault.at_s < bug.duration_s for fault in bug.plan())
        assert {fault.target for fault in bug.plan() if ">" in fault.target} <= set(
            known_connections()
        )
