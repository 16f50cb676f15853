"""The client wheel as another project uses it: in a clean environment with its declared
requirements alone.
"""

import ast
import asyncio
import re
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
from tests.system.readme import README, TUTORIAL, blocks
from tools import clients

UV = clients.ROOT / ".venv/bin/uv"
OLDEST = clients.ROOT / "requirements-oldest.txt"
PROGRAM = Path(__file__).parent / "wheel_walk.py"
# In the order of the program's arguments.
SERVICES = ("order", "warehouse", "fulfillment", "shipping", "payment")


def run(*command: str | Path, folder: Path | None = None) -> str:
    """Runs a program to its end and returns its output. Raises AssertionError with the output if it
    fails.
    """
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, timeout=300
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def needs(names: Sequence[str]) -> Iterator[str]:
    """Returns these distributions with their requirements, direct and indirect."""
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in seen:
            seen.add(name)
            yield name
            declared = map(Requirement, distribution(name).requires or ())
            waiting += [
                each.name
                for each in declared
                if each.marker is None or each.marker.evaluate({"extra": ""})
            ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, newly built."""
    return clients.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module", params=["newest", "oldest"])
def python(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The Python of a clean environment with the wheel and its declared requirements.

    Newest: linked to the versions of .venv; uv installs the wheel, faster than pip. Oldest: pip
    installs the pins of requirements-oldest.txt and the wheel.
    """
    folder = tmp_path_factory.mktemp("client")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin/python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    install: tuple[str | Path, ...] = (*pip, "install", "--quiet", "--no-deps")
    if request.param == "newest":
        run(UV, "pip", "install", "--quiet", "--no-deps", "--no-index", "--python", python, wheel)
        _link(python, wheel)
    else:
        run(*install, "--no-index", wheel)
        run(*install, "--only-binary", ":all:", "--require-hashes", "-r", OLDEST)
    return python


def _link(python: Path, wheel: Path) -> None:
    """Links the wheel's requirements into the environment of `python`."""
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for name in needs([each.name for each in _declared(wheel)]):
        files = distribution(name).files or ()
        for top in {file.parts[0] for file in files} - {".."}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution(name).locate_file(top))))


def _declared(wheel: Path) -> list[Requirement]:
    """Returns the requirements that the wheel's metadata names."""
    lines = [line.partition(":")[::2] for line in _metadata(wheel).splitlines()]
    return [Requirement(value.strip()) for name, value in lines if name == "Requires-Dist"]


def _metadata(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return archive.read(name).decode()


def test_wheel_has_only_the_contracts(wheel: Path) -> None:
    """The wheel has messages, stubs, their types and the marker of types. It requires neither
    validation rules nor another part of the project.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        texts = {name: archive.read(name).decode() for name in names}
    assert {name.partition("/")[0] for name in names} == {"ordermesh"}
    assert "ordermesh/py.typed" in names
    modules = {name for name in names if name.endswith("_pb2.py")}
    # validation is the server's
    contracts = {path.stem for path in (clients.ROOT / "proto").rglob("*.proto")} - {"rules"}
    assert {Path(name).name for name in modules} == {f"{name}_pb2.py" for name in contracts}
    types = {name for name in names if name.endswith(".pyi")}
    assert {f"{name}i" for name in modules} <= types
    assert {name.removesuffix("i") for name in types} <= set(names)
    assert [
        name for name, text in texts.items() if "buf.validate" in text or "buf/validate" in text
    ] == []


def test_same_contracts_make_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """A second build is the same, byte for byte: a reader of a pinned hash can build the wheel
    again.
    """
    assert clients.build(tmp_path).read_bytes() == wheel.read_bytes()


def test_oldest_versions_are_the_declared_bounds(wheel: Path) -> None:
    """requirements-oldest.txt pins the lower bound of each declared requirement, and protobuf 7 is
    in range.
    """
    pins = dict(re.findall(r"^([a-z-]+)==(\S+)", OLDEST.read_text(), re.MULTILINE))
    declared = _declared(wheel)
    assert {f"{each.name}>={pins[each.name]}" for each in declared} == {
        f"{each.name}>={bound.version}"
        for each in declared
        for bound in each.specifier
        if bound.operator == ">="
    }
    [protobuf] = [each for each in declared if each.name == "protobuf"]
    assert protobuf.specifier.contains("7.36.2")


def test_readme_programs_import_only_the_wheel(python: Path) -> None:
    """Each Python program of README.md and the tutorial imports in an environment with the wheel
    alone, except NATS's client.
    """
    both = [*blocks(README), *blocks(TUTORIAL)]
    pages = [block.text for block in both if block.language == "python"]
    assert len(pages) == 4
    for page in pages:
        imports = [
            node for node in ast.parse(page).body if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        wanted = [
            line
            for line in map(ast.unparse, imports)
            if not re.match(r"(from|import) nats\b", line)
        ]
        assert any("ordermesh" in line for line in wanted)
        run(python, "-I", "-c", "\n".join(wanted))


def test_wheel_with_its_declared_requirements_imports(python: Path) -> None:
    """In an environment with exactly the wheel's requirements, pip's check passes, and every module
    can be imported.
    """
    run(sys.executable, "-m", "pip", "--python", python, "check")
    everything = (
        "import importlib, pkgutil, ordermesh\n"
        "names = [m.name for m in pkgutil.walk_packages(ordermesh.__path__, 'ordermesh.')]\n"
        "assert len(names) > 30\n"
        "for name in names: importlib.import_module(name)\n"
        "try:\n    import protovalidate\nexcept ImportError: print('clean')\n"
    )
    assert run(python, "-I", "-c", everything) == "clean\n"


def test_type_checker_finds_the_types_of_the_wheel(python: Path) -> None:
    """A type checker in that environment finds the wheel's types, and reports a wrong field."""
    checker = (
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--python-executable",
        python,
        "--ignore-missing-imports",
    )
    folder = python.parents[1]
    run(*checker, PROGRAM, folder=folder)
    (folder / "wrong.py").write_text(
        "from ordermesh.order.v1.order_service_pb2 import"
        " GetOrderRequest\nGetOrderRequest(order_id=7)\n"
    )
    with pytest.raises(AssertionError, match='incompatible type "int"'):
        run(*checker, "wrong.py", folder=folder)


async def test_program_with_the_wheel_alone_walks_an_order(python: Path, stack: Stack) -> None:
    """A program with no part of the project but the wheel walks an order from checkout to
    delivered.
    """
    addresses = [stack.addresses[name] for name in SERVICES]
    finished = await asyncio.to_thread(run, python, "-I", PROGRAM, *addresses)
    assert finished.startswith("delivered ")
