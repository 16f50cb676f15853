"""The simulator's world, in a hurry."""

import pytest

from simulator import world


@pytest.fixture(autouse=True)
def _quick_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """It polls the services every hundredth of a second."""
    monkeypatch.setattr(world, "LOOK_S", 0.01)
    monkeypatch.setattr(world, "SILENT_S", 0.01)
