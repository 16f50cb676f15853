"""Generated files equal what their generator writes now, and each difference is named."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools import fresh

PB2 = "ordermesh/order/v1/order_pb2.py"


def test_generated_code_equals_its_contracts() -> None:
    """`make generate` leaves no difference in gen/. The test runs buf for some seconds."""
    assert list(fresh.generated_differences()) == []


def test_lock_equals_the_requirements() -> None:
    """`make lock` leaves no difference: the lock pins exactly what pyproject.toml requires."""
    assert list(fresh.lock_differences()) == []


def _spoil(folder: Path) -> None:
    (folder / PB2).write_text("# generated from an older contract\n")


def _lose(folder: Path) -> None:
    (folder / PB2).unlink()


def _leave(folder: Path) -> None:
    (folder / "ordermesh/order/v1/gone_pb2.pyi").write_text("")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (_spoil, f"gen/{PB2} is not what its contract makes of it"),
        (_lose, f"gen/{PB2} is not what its contract makes of it"),
        (_leave, "gen/ordermesh/order/v1/gone_pb2.pyi comes from no contract"),
    ],
)
def test_each_difference_is_named(
    tmp_path: Path, change: Callable[[Path], None], difference: str
) -> None:
    """Each stale or missing generated file, and each file without a contract, is named; no other
    is.
    """
    own_paths, now = tmp_path / "ours", tmp_path / "now"
    for folder in (own_paths, now):
        (folder / PB2).parent.mkdir(parents=True)
        (folder / PB2).write_text("# generated\n")
        (folder / PB2).with_name("__pycache__").mkdir()
    (own_paths / PB2).with_name("__pycache__").joinpath("order_pb2.pyc").write_text("")
    assert list(fresh.differences(now, own_paths)) == []
    change(own_paths)
    assert list(fresh.differences(now, own_paths)) == [difference]


def _project() -> Any:
    return tomllib.loads((fresh.ROOT / "pyproject.toml").read_text())["project"]


# pyproject.toml replaces the generator's own bound on protobuf.
STATED = {"grpcio-tools": ["grpcio>=1.76.0", "setuptools>=77.0.1"]}


def test_stale_lock_is_named() -> None:
    """A requirement without a pin, a pin out of bounds and an unused pin are each named."""
    lock = (fresh.ROOT / "requirements.lock").read_text()
    project = _project()
    project["dependencies"] = [*project["dependencies"], "no-such-package>=1", "grpcio<1"]
    found = list(
        fresh.unlocked(project, lock + "\nleft-over==1.0 \\\n    --hash=sha256:00\n", STATED)
    )
    assert "no-such-package>=1 is needed and not pinned" in found
    assert any(
        difference.startswith("grpcio is pinned to ")
        and difference.endswith("and grpcio<1 is needed")
        for difference in found
    )
    assert "left-over is pinned, and no package needs it" in found
    assert len(found) == 3


def test_lock_without_a_transitive_requirement_is_named() -> None:
    """The lock also has the requirements of requirements: a missing pin of one is named."""
    lock = (fresh.ROOT / "requirements.lock").read_text()
    [pin] = [line for line in lock.splitlines() if line.startswith("greenlet==")]
    assert "greenlet" not in " ".join(_project()["dependencies"])
    found = list(fresh.unlocked(_project(), lock.replace(pin, ""), STATED))
    assert [
        difference.endswith("is needed and not pinned") and difference.startswith("greenlet")
        for difference in found
    ] == [True]


def test_check_names_the_command_that_removes_the_difference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make check` fails on any difference and names the command to run; without one it prints
    nothing.
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
    """The generator's own metadata requires protobuf below 7; only the stated replacement permits
    7.
    """
    lock = (fresh.ROOT / "requirements.lock").read_text()
    assert list(fresh.unlocked(_project(), lock, STATED)) == []
    [found] = fresh.unlocked(_project(), lock, {})
    assert found.startswith("protobuf is pinned to 7")
    assert "<7" in found
