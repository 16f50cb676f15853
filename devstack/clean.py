"""What `make run` leaves behind, removed: the folder, and what root's PostgreSQL keeps outside
it. Whoever calls holds the folder.
"""

import os
import shutil
from pathlib import Path

from devstack import lock, rooms
from devstack.errors import DevstackError, refused
from devstack.postgres import ORPHANS_GONE_S

# What the names in a stack's folder begin with.
OURS = ("chaos", "lock", "logs", "nats", "pid", "postgres")


def clean(folder: Path) -> None:
    """Removes all data and logs of a stack in `folder`. Raises DevstackError where a server
    still uses them, or they are not ours alone.
    """
    if foreign := sorted(path.name for path in folder.iterdir() if not path.name.startswith(OURS)):
        raise DevstackError(
            f"{folder} holds what no stack has put there ({', '.join(foreign[:3])}): nothing was"
            " removed."
        )
    data = folder.absolute() / "postgres"
    outside = rooms.elsewhere(data)
    places = [folder]
    if os.geteuid() == 0 and os.path.lexists(outside) and rooms.made_by_root(outside):
        places.insert(0, outside)
    for used in (*(place / data.name for place in places), folder / "nats"):
        _need_unused(used)
    for place in places:
        try:
            shutil.rmtree(place)
        except OSError as error:
            raise refused(f"{place} could not be removed.", error) from error


def _need_unused(data: Path) -> None:
    """Waits for the server of a run that was killed: it still writes while it ends."""
    mark = data.with_name(data.name + ".lock")
    if mark.exists():
        os.close(
            lock.hold(
                mark, wait_s=ORPHANS_GONE_S, taken=f"A server still uses {data}: stop it first."
            )
        )
