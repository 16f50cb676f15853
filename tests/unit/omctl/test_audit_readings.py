"""The readings of an audit: it reports a difference of all readings, and names the facts that a
reading lacks."""

from collections.abc import Sequence

from chassis.values.errors import Deferred
from omctl.audit.audit import differences, persisting, unchecked
from omctl.audit.facts import Facts, Gap
from tests.unit.omctl.audit_world import World
from tests.unit.omctl.broken_facts import failed_event


async def test_difference_of_one_reading_is_not_reported() -> None:
    """The audit reports only differences with the same text in every reading. A difference that
    changed between readings was in progress.
    """
    readings = [World(), World(), World()]
    readings[0].level.available = 8
    readings[0].order.items[0].cancelled_quantity = readings[1].order.items[
        0
    ].cancelled_quantity = 0
    # implements the methods that the audit calls
    audit = await persisting(PreparedReadings(readings), settle_s=0.0)  # type: ignore[arg-type]
    assert list(audit.found) == []
    assert audit.facts.levels[0].available == 9


async def test_difference_of_every_reading_is_reported() -> None:
    """The audit reports a difference that every reading has, once."""
    readings = [World(), World(), World()]
    for world in readings:
        world.level.available = 8
    # implements the methods that the audit calls
    audit = await persisting(PreparedReadings(readings), settle_s=0.0)  # type: ignore[arg-type]
    assert [each.check for each in audit.found] == ["stock.ledger"]


async def test_audit_service_away_once_names_the_gap() -> None:
    """A rule counts as checked only if each reading had its facts; the other rules are checked."""
    readings = [World(), World(), World()]
    for world in readings:
        world.level.available = 8
        world.line.shipped = 1  # breaks order.stock, in each reading
    readings[1].gaps = [AWAY]
    # implements the methods that the audit calls
    audit = await persisting(PreparedReadings(readings), settle_s=0.0)  # type: ignore[arg-type]
    assert [each.check for each in audit.found] == ["stock.ledger"]
    assert list(audit.gaps) == [AWAY]
    assert "order.stock" in unchecked(audit.gaps)


def test_audit_gap_skips_only_the_checks_that_need_it() -> None:
    """Without reservations the audit checks the ledger, and skips the check of reserved units."""
    world = World()
    world.level.available, world.line.shipped, world.gaps = 8, 1, [AWAY]
    assert [each.check for each in differences(world.facts())] == ["stock.ledger"]
    assert unchecked([AWAY]) == [
        "order.stock",
        "reservation.closed_attempt",
        "reservation.order",
        "stock.reservations",
    ]


def test_audit_gap_of_one_service_skips_that_service() -> None:
    """Each service has its own failed events: those of the others are checked."""
    world = World()
    failed_event(world)
    world.gaps = [Gap("payment", "failed", Deferred("DEPENDENCY_UNAVAILABLE"))]
    assert [each.check for each in differences(world.facts())] == ["event.failed"]
    assert unchecked(world.gaps) == ["event.failed of payment"]


AWAY = Gap("warehouse", "reservations", Deferred("DEPENDENCY_UNAVAILABLE"))


class PreparedReadings:
    """Readings that the test prepared."""

    def __init__(self, worlds: Sequence[World]) -> None:
        self._worlds = iter(worlds)

    async def read(self) -> Facts:
        return next(self._worlds).facts()
