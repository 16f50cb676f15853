"""The client wheel as somebody else has it: in a clean environment with nothing but what it declares."""

import asyncio
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from devstack.stack import Stack
from tools import clients

PROGRAM = Path(__file__).parent / "wheel_walk.py"
# In the order of the program's arguments.
SERVICES = ("order", "warehouse", "fulfillment", "shipping", "payment")


def run(*command: str | Path, folder: Path | None = None) -> str:
    """Runs a program to its end; what it printed. Raises AssertionError with all of it where it fails."""
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=300)
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


def needs(names: Sequence[str]) -> Iterator[str]:
    """These distributions, and what they need in turn."""
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in seen:
            seen.add(name)
            yield name
            declared = map(Requirement, distribution(name).requires or ())
            waiting += [each.name for each in declared if each.marker is None or each.marker.evaluate({"extra": ""})]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, freshly built."""
    return clients.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a clean environment: the wheel is installed, and what it declares is linked to; no network is needed."""
    folder = tmp_path_factory.mktemp("client")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin/python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel)
    declared = [line.partition(":")[2] for line in _metadata(wheel).splitlines() if line.startswith("Requires-Dist:")]
    for name in needs([Requirement(each.strip()).name for each in declared]):
        files = distribution(name).files or ()
        for top in {file.parts[0] for file in files} - {".."}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    return python


def _metadata(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return archive.read(name).decode()


def test_the_wheel_holds_contracts_alone(wheel: Path) -> None:
    """Messages, stubs, their types and the mark that they have some; nothing asks for validation rules, or for anything else of ours."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        texts = {name: archive.read(name).decode() for name in names}
    assert {name.partition("/")[0] for name in names} == {"ordermesh"}
    assert "ordermesh/py.typed" in names
    modules = {name for name in names if name.endswith("_pb2.py")}
    assert {Path(name).name for name in modules} == {f"{path.stem}_pb2.py" for path in (clients.ROOT / "proto").rglob("*.proto")}
    assert {f"{name}i" for name in modules} <= set(names)
    assert [name for name, text in texts.items() if "buf.validate" in text or "buf/validate" in text] == []


def test_the_same_contracts_make_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """Built again it is the same, byte for byte: who pins its hash can build it himself."""
    assert clients.build(tmp_path).read_bytes() == wheel.read_bytes()


def test_its_declared_needs_are_all_that_it_needs(python: Path) -> None:
    """In an environment with what the wheel declares, and no more, all is satisfied, and every module can be imported."""
    run(sys.executable, "-m", "pip", "--python", python, "check")
    everything = (
        "import importlib, pkgutil, ordermesh\n"
        "names = [m.name for m in pkgutil.walk_packages(ordermesh.__path__, 'ordermesh.')]\n"
        "assert len(names) > 30\n"
        "for name in names: importlib.import_module(name)\n"
        "try:\n    import protovalidate\nexcept ImportError: print('clean')\n"
    )
    assert run(python, "-I", "-c", everything) == "clean\n"


def test_its_types_are_known(python: Path) -> None:
    """A type checker in that environment finds the wheel's types, and a wrong field wrong."""
    checker = (sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable", python, "--ignore-missing-imports")
    folder = python.parents[1]
    run(*checker, PROGRAM, folder=folder)
    (folder / "wrong.py").write_text("from ordermesh.order.v1.order_service_pb2 import GetOrderRequest\nGetOrderRequest(order_id=7)\n")
    with pytest.raises(AssertionError, match='incompatible type "int"'):
        run(*checker, "wrong.py", folder=folder)


async def test_an_order_is_walked_with_it(python: Path, stack: Stack) -> None:
    """A program with nothing of ours but the wheel walks an order from checkout to delivered."""
    addresses = [stack.addresses[name] for name in SERVICES]
    told = await asyncio.to_thread(run, python, "-I", PROGRAM, *addresses)
    assert told.startswith("delivered ")
