"""The fulfilment service's settings: what is inspected is told by the environment, and what is told wrongly is named."""

import pytest

from chassis.config import load
from fulfillment_svc.config import Config
from fulfillment_svc.model import InspectionPolicy


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What every service must be told."""
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://localhost/fulfillment")
    monkeypatch.setenv("NATS_URL", "nats://localhost")


def test_by_default_nothing_is_inspected() -> None:
    """Without settings the policy is the empty one, and the addresses are the local stack's."""
    config = load(Config)
    assert config.inspection == InspectionPolicy()
    assert (config.listen_address, config.warehouse_address, config.shipping_address) == (
        "127.0.0.1:15053",
        "127.0.0.1:15052",
        "127.0.0.1:15054",
    )


def test_rules_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Amounts become minor units of their currency; SKUs may have commas and spaces."""
    monkeypatch.setenv("INSPECT_ORDER_VALUES", '{"GBP": "1000.50", "JPY": 150000, "KWD": "1.234"}')
    monkeypatch.setenv("INSPECT_SKUS", '["Lamp, blue", "mug"]')
    monkeypatch.setenv("INSPECT_SAMPLE_RATE", "0.05")
    values = {"GBP": 1000_50, "JPY": 150_000, "KWD": 1_234}
    assert load(Config).inspection == InspectionPolicy(values, frozenset({"Lamp, blue", "mug"}), 0.05)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("INSPECT_ORDER_VALUES", "GBP 1000"),
        ("INSPECT_ORDER_VALUES", "[1000]"),
        ("INSPECT_ORDER_VALUES", '{"GBP": "1000.505"}'),
        ("INSPECT_ORDER_VALUES", '{"GBP": "-1"}'),
        ("INSPECT_ORDER_VALUES", '{"GBP": "NaN"}'),
        ("INSPECT_ORDER_VALUES", '{"GBP": "much"}'),
        ("INSPECT_ORDER_VALUES", '{"XXXX": "1"}'),
        ("INSPECT_SKUS", "mug"),
        ("INSPECT_SKUS", '{"mug": 1}'),
        ("INSPECT_SKUS", "[1]"),
        ("INSPECT_SAMPLE_RATE", "1.5"),
    ],
)
def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str) -> None:
    """The service does not start, and says in a sentence which variable is not right."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit):
        load(Config)
    assert f"{variable} is not right" in capsys.readouterr().err
