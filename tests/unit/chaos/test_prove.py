"""The rule for a found defect: its run reports a difference. A run that does not start, or whose
services end, finds nothing.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devstack.errors import DevstackError
from omctl.audit.difference import Difference
from tests.chaos import prove, run
from tests.chaos.run import NotStarted, Wanted

BUG = "no_dedup"
DIFFERENCE = Difference(
    check="stock.ledger", subject="stock x/y", text="available is 8", repair="omctl stock list"
)


def _ends(found: Any) -> Callable[[str], Any]:
    """Returns a run that ends with this report or raises this error."""

    async def caught(_name: str) -> Any:
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(healthy=not found, differences=found)

    return caught


@pytest.mark.parametrize(
    ("found", "code", "expected_output"),
    [
        ([DIFFERENCE], prove.CAUGHT, "1 × stock.ledger"),
        ([], prove.MISSED, "MISSED"),
        (
            DevstackError("The order service died."),
            prove.MISSED,
            "NOT FOUND, the services ended: The order service died.",
        ),
        (
            NotStarted("The disk is full."),
            prove.MISSED,
            "NOT RUN, the stack did not start: The disk is full.",
        ),
    ],
    ids=["differs", "healthy", "dies", "never starts"],
)
def test_defect_is_found_or_missed(
    found: Any,
    code: int,
    expected_output: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The exit code is the one of a missed defect also where the stack did not start, or where the
    services ended: a defect that only ends them breaks no guarantee that a run checks.
    """
    monkeypatch.setattr(prove, "caught", _ends(found))
    assert prove.main([BUG]) == code
    assert expected_output in capsys.readouterr().out


async def test_run_whose_stack_does_not_start_raises_its_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stack that does not start raises an error of its own type, distinct from services that
    end.
    """

    class Refused:
        def __init__(self, *_places: Any, **_options: Any) -> None:
            pass

        async def __aenter__(self) -> None:
            raise DevstackError("The disk is full.")

        async def __aexit__(self, *_error: object) -> None:
            pass

    monkeypatch.setattr(run, "Stack", Refused)
    with pytest.raises(NotStarted, match=r"The disk is full\."):
        await run.run(Wanted(seed=1, duration_s=0.0, faults=[], shoppers=[]), tmp_path)
