"""Gauges of what must be read somewhere: absent where that fails."""

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from chassis.observe import telemetry

ROOT = Path(__file__).parents[3]
# What the process itself knows at any moment, or what stays true while nothing is done. All other
# gauges are readings.
OWN = {
    "broker_connected",
    "grpc_client_breaker_state",
    "grpc_server_in_flight",
    "worker_last_success_timestamp_seconds",
}


def test_gauges_of_what_is_read_elsewhere_are_readings() -> None:
    """A new gauge is a telemetry.reading, unless the process knows its value at any moment."""
    files = [
        file for folder in [ROOT / "chassis", *ROOT.glob("*_svc")] for file in folder.rglob("*.py")
    ]
    names = {
        name
        for file in files
        for name in re.findall(r'telemetry\.gauge\(\s*"(\w+)"', file.read_text())
    }
    assert names == OWN


def test_reading_that_fails_is_absent_until_it_is_read() -> None:
    """Before it is read, and after a failure, it has no value; of other labels the values stay."""
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
