"""Idempotency keys and request hashes of requests."""

from typing import Any

import pytest

from chassis.values.request_context import KeyReused, request_context
from tests.rpc.sample import contract


def _create(**fields: Any) -> Any:
    return contract()[0].CreateThingRequest(**{"request_id": "r1", "name": "a"} | fields)


def test_key_is_method_and_request_id() -> None:
    """The key has the full name of the method that takes the request, and the caller's id."""
    assert request_context(_create()).key == "/sample.v1.SampleService/CreateThing:r1"
    release = contract()[0].ReleaseReservationRequest(request_id="r1")
    assert request_context(release).key == "/sample.v1.SampleService/ReleaseReservation:r1"


def test_request_hash_covers_all_but_the_request_id() -> None:
    """Another body has another request hash; another request_id or an absent field has the same.
    The request stays unchanged.
    """
    request = _create()
    request_hash = request_context(request).request_hash
    assert len(request_hash) == 32
    assert request == _create()
    assert request_context(_create(request_id="r2")).request_hash == request_hash
    assert request_context(_create(name="b")).request_hash != request_hash
    assert request_context(_create(proposed_id="p")).request_hash != request_hash
    assert (
        request_context(_create(proposed_id="p"), leave_out=["proposed_id"]).request_hash
        == request_hash
    )


def test_request_hash_ignores_the_order_of_a_map() -> None:
    """Maps have no order: two equal requests have the same request hash."""
    pb = contract()[0]
    places = {f"place {number}": pb.Part(name="a", quantity=number) for number in range(20)}
    one = pb.TagThingRequest(request_id="r1", places=places)
    other = pb.TagThingRequest(request_id="r1", places=dict(reversed(places.items())))
    assert request_context(one) == request_context(other)


@pytest.mark.parametrize(
    "message", ["CreateThingRequest", "GetThingRequest", "CreateThingResponse", "Part"]
)
def test_message_without_a_key_is_a_defect(message: str) -> None:
    """A request without a request_id, which validation requires, and a message that no method takes
    each raise a defect.
    """
    with pytest.raises(ValueError, match=r"request_id|methods"):
        request_context(getattr(contract()[0], message)())


def test_reused_request_id_advises_repeat_or_new_id() -> None:
    """The refusal names the method and the next step, and hides the internal key."""
    key = request_context(_create()).key
    refused = KeyReused(key)
    assert refused.message == (
        "This request_id stands for another request of CreateThing. Repeat exactly that request"
        " to get its answer, or send a new request_id."
    )
    assert refused.metadata == {"request_id": "r1"}
    assert key not in f"{refused} {refused!r}"


def test_message_that_no_method_takes_is_a_defect() -> None:
    """Such a message is a defect also with a request_id: the key has no method to name."""
    with pytest.raises(ValueError, match="0 methods"):
        request_context(contract()[0].Orphan(request_id="r1"))
