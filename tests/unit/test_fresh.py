"""What is generated is what would be generated now, and each way in which it may not be is
named.
"""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools import fresh

PB2 = "ordermesh/order/v1/order_pb2.py"


def test_the_generated_code_is_fresh() -> None:
    """`make generate` leaves no difference: gen/ is what its contracts make of it. (Runs buf,
    some seconds.)
    """
    assert list(fresh.generated_differences()) == []


def test_the_lock_is_fresh() -> None:
    """`make lock` is not due: what pyproject.toml asks for is pinned, all of it and no more."""
    assert list(fresh.lock_differences()) == []


def _spoil(folder: Path) -> None:
    (folder / PB2).write_text("# generated from an older contract\n")


def _lose(folder: Path) -> None:
    (folder / PB2).unlink()


def _leave(folder: Path) -> None:
    (folder / "ordermesh/order/v1/gone_pb2.pyi").write_text("")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_spoil, f"gen/{PB2} is not what its contract makes of it"),
        (_lose, f"gen/{PB2} is not what its contract makes of it"),
        (_leave, "gen/ordermesh/order/v1/gone_pb2.pyi comes from no contract"),
    ],
)
def test_a_difference_is_named(tmp_path: Path, change: Callable[[Path], None], said: str) -> None:
    """A generated file that is older than its contract, is missing, or has lost its contract:
    each is named, and nothing else is.
    """
    ours, now = tmp_path / "ours", tmp_path / "now"
    for folder in (ours, now):
        (folder / PB2).parent.mkdir(parents=True)
        (folder / PB2).write_text("# generated\n")
        (folder / PB2).with_name("__pycache__").mkdir()
    (ours / PB2).with_name("__pycache__").joinpath("order_pb2.pyc").write_text("")
    assert list(fresh.differences(now, ours)) == []
    change(ours)
    assert list(fresh.differences(now, ours)) == [said]


def _project() -> Any:
    return tomllib.loads((fresh.ROOT / "pyproject.toml").read_text())["project"]


# The generator's own bound on protobuf is replaced in pyproject.toml.
STATED = {"grpcio-tools": ["grpcio>=1.76.0", "setuptools>=77.0.1"]}


def test_a_stale_lock_is_named() -> None:
    """A requirement without a pin, a pin out of bounds and a pin of no use are each named, with
    what is needed.
    """
    lock = (fresh.ROOT / "requirements.lock").read_text()
    project = _project()
    project["dependencies"] = [*project["dependencies"], "no-such-package>=1", "grpcio<1"]
    found = list(
        fresh.unlocked(project, lock + "\nleft-over==1.0 \\\n    --hash=sha256:00\n", STATED)
    )
    assert "no-such-package>=1 is needed and not pinned" in found
    assert any(
        said.startswith("grpcio is pinned to ") and said.endswith("and grpcio<1 is needed")
        for said in found
    )
    assert "left-over is pinned, and nobody needs it" in found
    assert len(found) == 3


def test_what_a_package_needs_is_needed_too() -> None:
    """The lock also has what requirements themselves require: without its pin, that is named."""
    lock = (fresh.ROOT / "requirements.lock").read_text()
    [pin] = [line for line in lock.splitlines() if line.startswith("greenlet==")]
    assert "greenlet" not in " ".join(_project()["dependencies"])
    found = list(fresh.unlocked(_project(), lock.replace(pin, ""), STATED))
    assert [
        said.endswith("is needed and not pinned") and said.startswith("greenlet") for said in found
    ] == [True]


def test_it_says_what_mends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `make check` runs it, it fails on any difference and names the command; without one it
    is silent.
    """
    monkeypatch.setattr(
        fresh, "generated_differences", lambda: iter(["gen/x comes from no contract"])
    )
    monkeypatch.setattr(fresh, "lock_differences", lambda: iter(["y is needed and not pinned"]))
    assert fresh.main() == 1
    assert capsys.readouterr().err == (
        "gen/x comes from no contract: run `make generate` and commit what it changes\n"
        "y is needed and not pinned: run `make lock` and commit what it changes\n"
    )
    monkeypatch.setattr(fresh, "generated_differences", lambda: iter([]))
    monkeypatch.setattr(fresh, "lock_differences", lambda: iter([]))
    assert (fresh.main(), capsys.readouterr().err) == (0, "")


def test_unlocked_metadata_not_replaced_names_the_bound() -> None:
    """The generator's own metadata asks for protobuf below 7; only the stated replacement admits
    7.
    """
    lock = (fresh.ROOT / "requirements.lock").read_text()
    assert list(fresh.unlocked(_project(), lock, STATED)) == []
    [found] = fresh.unlocked(_project(), lock, {})
    assert found.startswith("protobuf is pinned to 7")
    assert "<7" in found
