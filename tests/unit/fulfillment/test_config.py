"""The fulfilment service's settings: the environment determines the inspections, and an invalid
value is named.
"""

import pytest

from chassis.values.config import load
from fulfillment_svc.config import Config


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets the variables that every service needs."""
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://localhost/fulfillment")
    monkeypatch.setenv("NATS_URL", "nats://localhost")


def test_by_default_nothing_is_inspected() -> None:
    """Without settings there is no rule, and the addresses are those of the local stack."""
    config = load(Config)
    assert (config.inspect_order_values, config.inspect_skus, config.inspect_sample_rate) == (
        {},
        frozenset(),
        0.0,
    )
    assert (config.listen_address, config.warehouse_address, config.shipping_address) == (
        "127.0.0.1:15053",
        "127.0.0.1:15052",
        "127.0.0.1:15054",
    )


def test_rules_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are minor units by currency; SKUs may have commas and spaces."""
    monkeypatch.setenv("INSPECT_ORDER_VALUES", '{"GBP": 100050, "JPY": 150000}')
    monkeypatch.setenv("INSPECT_SKUS", '["Lamp, blue", "mug", "Cafe\\u0301"]')
    monkeypatch.setenv("INSPECT_SAMPLE_RATE", "0.05")
    config = load(Config)
    assert config.inspect_order_values == {"GBP": 1000_50, "JPY": 150_000}
    assert (config.inspect_skus, config.inspect_sample_rate) == (
        frozenset({"Lamp, blue", "mug", "Caf\u00e9"}),
        0.05,
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("INSPECT_ORDER_VALUES", "GBP 1000"),
        ("INSPECT_ORDER_VALUES", "[1000]"),
        ("INSPECT_ORDER_VALUES", '{"GBP": 1000.505}'),
        ("INSPECT_ORDER_VALUES", '{"GBP": -1}'),
        ("INSPECT_ORDER_VALUES", '{"GBP": "much"}'),
        ("INSPECT_ORDER_VALUES", '{"pounds": 1}'),
        ("INSPECT_SKUS", "mug"),
        ("INSPECT_SKUS", '{"mug": 1}'),
        ("INSPECT_SKUS", "[1]"),
        ("INSPECT_SAMPLE_RATE", "1.5"),
    ],
)
def test_invalid_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    """The service does not start, and prints a sentence with the invalid variable."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit):
        load(Config)
    assert f"{variable} is not right" in capsys.readouterr().err
