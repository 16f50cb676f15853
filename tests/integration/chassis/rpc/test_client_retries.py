"""The calls that a client's channel retries."""

import json
from typing import Any

import pytest

from chassis.rpc.client import ask
from chassis.rpc.retries import published_services, service_config
from chassis.values.errors import (
    Defect,
    Deferred,
    Failure,
    Overloaded,
    Refused,
)
from tests.rpc.requests import create_thing, get_thing
from tests.rpc.sample import Sample, contract


@pytest.mark.parametrize(
    ("method", "request_name", "attempts"),
    [
        ("GetThing", "GetThingRequest", 4),
        ("CreateThing", "CreateThingRequest", 4),
        ("KickThing", "KickThingRequest", 1),
        ("ReleaseReservation", "ReleaseReservationRequest", 1),
    ],
)
async def test_only_safe_calls_are_tried_again(
    sample: Sample, sample_stub: Any, method: str, request_name: str, attempts: int
) -> None:
    """After UNAVAILABLE, reads and calls with a request_id are retried. Other calls, and releases,
    are not.
    """
    sample.fail(Deferred("DEPENDENCY_UNAVAILABLE"))
    request = getattr(contract()[0], request_name)()
    if method == "GetThing":
        request.thing_id = "1"
    with pytest.raises(Deferred):
        await ask(getattr(sample_stub, method), request)
    assert sample.calls == attempts


@pytest.mark.parametrize(
    "failure", [Refused("ILLEGAL_TRANSITION"), Overloaded("OVERLOADED"), Defect(ValueError())]
)
async def test_only_unavailable_is_tried_again(
    sample: Sample, sample_stub: Any, failure: Failure
) -> None:
    """After any code but UNAVAILABLE the call is not retried."""
    sample.fail(failure)
    with pytest.raises(Failure):
        await ask(sample_stub.GetThing, get_thing())
    assert sample.calls == 1


async def test_a_retry_succeeds(sample: Sample, sample_stub: Any) -> None:
    """A call whose first try gets UNAVAILABLE is answered by the second."""

    async def behave() -> str:
        if sample.calls == 1:
            raise Deferred("DEPENDENCY_UNAVAILABLE")
        return "done"

    sample.behave = behave
    assert (await ask(sample_stub.CreateThing, create_thing())).text == "done"


def test_default_config_names_every_safe_method() -> None:
    """The default service config names exactly the reads and the methods with a request_id of the
    published contracts.
    """
    config = service_config(published_services())
    (method_config,) = config["methodConfig"]
    names = {
        f"{name['service'].rpartition('.')[2]}/{name['method']}" for name in method_config["name"]
    }
    assert {
        "OrderService/CreateOrder",
        "OrderService/GetOrder",
        "OrderService/BatchGetOrders",
        "OrderService/ListOrders",
    } <= names
    assert "ReservationService/ReserveStock" in names
    assert "ReservationService/BatchConfirmReservations" in names
    assert not [name for name in names if "Watch" in name or "Release" in name]
    assert method_config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert config["retryThrottling"]["tokenRatio"] > 0
    json.dumps(config)
