"""The free space of every disk that the stack writes to is checked. A PostgreSQL that runs as root
may have its data and its logs on different disks.
"""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from devstack.errors import DevstackError
from devstack.stack import Stack
from tests.support import reachable_folder


@pytest.mark.parametrize("full", ["home", "elsewhere"])
async def test_full_disk_ends_the_watch_and_prevents_the_start(
    full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk ends the watch and keeps the stack from starting. The message names the disk, and
    nothing is started.
    """
    with reachable_folder("ordermesh-disks-") as folder:
        for name in ("home", "elsewhere"):
            (folder / name).mkdir()
        usage = shutil.disk_usage
        monkeypatch.setattr(
            shutil,
            "disk_usage",
            lambda path: (
                SimpleNamespace(free=0) if Path(path).is_relative_to(folder / full) else usage(path)
            ),
        )
        made = Stack(folder / "home")
        assert made.postgres is not None
        made.postgres.data = folder / "elsewhere" / "postgres"
        with pytest.raises(DevstackError, match=f"The disk of {folder / full} is all but full"):
            made.check()
        with pytest.raises(DevstackError, match=f"The disk of {folder / full} is all but full"):
            await made.__aenter__()
        assert not (folder / "home" / "logs").exists()
