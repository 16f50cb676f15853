"""The arithmetic of a time budget."""

import asyncio

import pytest

from chassis.values import deadline


async def test_budget_is_the_time_that_remains() -> None:
    """Without a limit the budget is None. A budget shrinks with time, is never below 0, and holds
    in this context alone.
    """
    assert deadline.remaining() is None

    async def inside() -> tuple[float, float, float]:
        deadline.set_budget(0.05)
        first = deadline.remaining()
        await asyncio.sleep(0.02)
        second = deadline.remaining()
        await asyncio.sleep(0.04)
        third = deadline.remaining()
        assert first is not None
        assert second is not None
        assert third is not None
        return first, second, third

    first, second, third = await asyncio.create_task(inside())
    assert 0 < second <= first - 0.02 < 0.05
    assert third == 0
    assert deadline.remaining() is None


@pytest.mark.parametrize(
    ("remaining_s", "kept_s"), [(0.2, 0.05), (1, 0.05), (5, 0.25), (10, 0.5), (20, 1), (3600, 1)]
)
def test_margin_grows_with_the_deadline(remaining_s: float, kept_s: float) -> None:
    """The margin is a twentieth of the remaining time, from 50 ms to a second."""
    assert deadline.margin(remaining_s) == pytest.approx(kept_s)
