"""Checks that generated files are up to date, and names the command that updates them.

Compares gen/ with proto/, and requirements.lock with pyproject.toml. The lock pins every
requirement within its bounds, every package that these need, and no other package. The checks
change nothing and need no network.
"""

import filecmp
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "contracts.binpb"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)(?: ; ([^\\]+))?", re.MULTILINE)


def generated_differences() -> Iterator[str]:
    """Yields the files of gen/ that differ from those of `make generate`, are missing, or are left
    over.
    """
    with tempfile.TemporaryDirectory() as folder:
        buf = ROOT / ".venv/bin/buf"
        subprocess.run([buf, "generate", "--output", folder], cwd=ROOT, check=True)
        image = Path(folder, "gen", IMAGE)
        subprocess.run(
            [buf, "build", "--as-file-descriptor-set", "--output", image], cwd=ROOT, check=True
        )
        yield from differences(Path(folder, "gen"), ROOT / "gen")


def differences(fresh: Path, present: Path) -> Iterator[str]:
    """Yields the files in which `present` differs from `fresh`, those it lacks, and extra ones."""
    for path in sorted(_files(fresh) | _files(present)):
        if not (fresh / path).exists():
            yield f"gen/{path} comes from no contract"
        elif not (present / path).exists() or not filecmp.cmp(
            fresh / path, present / path, shallow=False
        ):
            yield f"gen/{path} is not what its contract makes of it"


def _files(folder: Path) -> set[Path]:
    found = [*folder.rglob("*.py*"), *folder.glob(IMAGE)]
    return {path.relative_to(folder) for path in found if "__pycache__" not in path.parts}


def lock_differences() -> Iterator[str]:
    """Yields the differences between requirements.lock and pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    metadata = settings["tool"]["uv"]["dependency-metadata"]
    stated = {each["name"]: each["requires-dist"] for each in metadata}
    return unlocked(settings["project"], (ROOT / "requirements.lock").read_text(), stated)


def unlocked(
    project: Mapping[str, Any], lock: str, stated: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Yields the missing, out-of-bounds and extra pins of a lock, for the requirements of a
    `project` table.

    `stated` are packages whose requirements pyproject.toml replaces; the lock's resolver uses the
    same ones.
    """
    pins = {
        canonicalize_name(name): (version, marker) for name, version, marker in PIN.findall(lock)
    }
    waiting = [
        Requirement(r) for r in (*project["dependencies"], *project["optional-dependencies"]["dev"])
    ]
    needed: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name, key = (
            canonicalize_name(requirement.name),
            (canonicalize_name(requirement.name), frozenset(requirement.extras)),
        )
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        known = key in needed
        needed.add(key)
        # each dependent package has its own bounds
        if name in pins and not requirement.specifier.contains(pins[name][0], prereleases=True):
            yield f"{name} is pinned to {pins[name][0]}, and {requirement} is needed"
        elif name not in pins and not known:
            yield f"{requirement} is needed and not pinned"
        elif not known:
            waiting += _needs(requirement, stated)
    names = {name for name, _ in needed}
    for name, (_, marker) in pins.items():
        # a package with a marker may be needed on another system
        if name not in names and not marker:
            yield f"{name} is pinned, and no package needs it"


def _needs(requirement: Requirement, stated: Mapping[str, Sequence[str]]) -> Iterator[Requirement]:
    """Yields the requirements of an installed package with the given extras."""
    try:
        declared = stated.get(requirement.name) or distribution(requirement.name).requires or ()
    except PackageNotFoundError:
        return  # pinned for another system
    for each in map(Requirement, declared):
        if each.marker is None or any(
            each.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
        ):
            each.marker = None
            yield each


def main() -> int:
    faults = 0
    for found, mend in ((generated_differences, "make generate"), (lock_differences, "make lock")):
        for difference in found():
            faults += 1
            print(f"{difference}: run `{mend}` and commit what it changes", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
