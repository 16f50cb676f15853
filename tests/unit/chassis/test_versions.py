"""The bound on a jump in the version of another service's record."""

import pytest

from chassis.values.errors import Refused
from chassis.values.versions import FIRST_MAX, JUMP_MAX, check_jump


@pytest.mark.parametrize("stored", [1, 7, 20_000])
def test_jump_at_the_bound_is_allowed(stored: int) -> None:
    """A version up to 10,000 above the stored one is valid, and so is every older one."""
    assert JUMP_MAX == 10_000
    for stated in (0, stored, stored + JUMP_MAX):
        check_jump(stored, stated, "Order 7")


@pytest.mark.parametrize("stated", [10_008, 2**60])
def test_jump_beyond_the_bound_is_refused(stated: int) -> None:
    """A version one higher is refused, with both versions and the command that sets the stored
    one.
    """
    with pytest.raises(Refused, match="omctl events set-version") as caught:
        check_jump(7, stated, "Order 7")
    assert caught.value.reason == "VERSION_JUMP"
    assert caught.value.metadata == {"stored": "7", "stated": str(stated)}


def test_first_version_up_to_its_bound_is_allowed() -> None:
    """Without a stored version, a version up to 100,000,000 is valid: scans raise one without an
    event.
    """
    assert FIRST_MAX == 100_000_000
    for stated in (1, JUMP_MAX + 1, FIRST_MAX):
        check_jump(0, stated, "Fulfilment 7")


@pytest.mark.parametrize("stated", [FIRST_MAX + 1, 2**60])
def test_first_version_beyond_its_bound_is_refused(stated: int) -> None:
    """A version one higher is refused. No stored version can be set, so the text advises to discard
    the event.
    """
    with pytest.raises(Refused, match=r"Discard the event\.$") as caught:
        check_jump(0, stated, "Fulfilment 7")
    assert caught.value.reason == "VERSION_JUMP"
    assert caught.value.metadata == {"stored": "0", "stated": str(stated)}
