"""The defects that a run must find can be planted: what they break is still there, by that name.
That each is found: tests.chaos.prove.
"""

import subprocess
import sys

from tests.chaos.bugs import BUGS
from tests.chaos.plan import SERVICES, Kind
from tests.chaos.roads import known_roads

PLANT_ALL = "from tests.chaos.bugs import BUGS\nfor bug in BUGS.values(): bug.plant()"


def test_every_defect_can_be_planted() -> None:
    """In a process of its own, which is of no use afterwards."""
    planted = subprocess.run(
        [sys.executable, "-c", PLANT_ALL], capture_output=True, text=True, timeout=60, check=False
    )
    assert planted.returncode == 0, planted.stderr


def test_every_defect_has_its_run() -> None:
    """Ten of them at least, each in services that there are, with shoppers who meet it and
    faults that there are.
    """
    assert len(BUGS) >= 10
    for bug in BUGS.values():
        assert set(bug.services) <= set(SERVICES)
        assert bug.intents()
        assert all(fault.kind in Kind and fault.at_s < bug.duration_s for fault in bug.plan())
        assert {fault.target for fault in bug.plan() if ">" in fault.target} <= set(known_roads())
