"""Gauges whose values are read from another system: absent where the read fails."""

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from chassis.observe import telemetry

ROOT = Path(__file__).parents[3]
# Gauges whose value the process has at any moment, or that stays true while nothing runs. All
# others are readings.
OWN = {
    "broker_connected",
    "grpc_client_breaker_state",
    "grpc_server_in_flight",
    "worker_last_success_timestamp_seconds",
}


def test_gauge_of_an_external_value_is_a_reading() -> None:
    """A new gauge is a telemetry.reading, unless the process has its value at any moment."""
    files = [
        file for folder in [ROOT / "chassis", *ROOT.glob("*_svc")] for file in folder.rglob("*.py")
    ]
    names = {
        name
        for file in files
        for name in re.findall(r'telemetry\.gauge\(\s*"(\w+)"', file.read_text())
    }
    assert names == OWN


def test_failed_reading_is_absent_until_the_next_read() -> None:
    """A reading has no value before its first read and after a failure. Values of other labels
    stay.
    """
    reading = telemetry.reading("sample_reading", "A sample", "of", "state")

    def values() -> list[float | None]:
        labels = [("a", "new"), ("a", "old"), ("b", "new")]
        return [
            REGISTRY.get_sample_value("sample_reading", {"of": of, "state": state})
            for of, state in labels
        ]

    assert values() == [None, None, None]
    with telemetry.reading_of(reading.labels("a")):
        for state, value in (("new", 1), ("old", 2)):
            reading.labels("a").labels(state).set(value)
    reading.labels("b", "new").set(3)
    assert values() == [1, 2, 3]
    with pytest.raises(ConnectionError), telemetry.reading_of(reading.labels("a")):
        raise ConnectionError
    assert values() == [None, None, 3]
    reading.labels("a", "old").set(0)
    assert values() == [None, 0, 3]
