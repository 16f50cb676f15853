"""A short run of `make chaos` with a fixed seed: people start the long ones."""

from pathlib import Path

from tests.chaos.run import by_chance, run
from tests.support import reachable_folder

SEED = 11
DURATION_S = 35.0
RATE = 2.0
STRUCK_MIN = 8


async def test_orders_under_faults_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """Services, servers and connections fail and return while shoppers order. Afterwards every unit
    and every penny is accounted for.
    """
    with reachable_folder("ordermesh-chaos-") as folder:
        report = await run(by_chance(SEED, DURATION_S, RATE), folder)
    (tmp_path / "report.txt").write_text("\n".join(report.lines()))
    assert report.healthy, "\n".join(report.lines())
    assert sum(bool(strike.evidence) for strike in report.strikes) >= STRUCK_MIN, (
        "hardly a fault struck: this proves little"
    )
