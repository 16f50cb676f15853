"""Removes the data and logs of `make run`: the folder, and the data that root's PostgreSQL keeps
elsewhere. The caller holds the folder's lock.
"""

import os
import shutil
from pathlib import Path

from devstack import lock, rooms
from devstack.errors import DevstackError, refused
from devstack.server import ORPHANS_GONE_S

# Prefixes of the names in a stack's folder.
OURS = ("chaos", "lock", "logs", "nats", "pid", "postgres")


def clean(folder: Path) -> None:
    """Removes all data and logs of a stack in `folder`. Raises DevstackError if a server still uses
    them, or if the folder has other files.
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
        mark = used.with_name(used.name + ".lock")
        if mark.exists():
            # the server of a killed run still writes while it ends
            os.close(
                lock.hold(
                    mark,
                    wait_s=ORPHANS_GONE_S,
                    taken=f"A server still uses {used}: stop it first.",
                )
            )
    for place in places:
        try:
            shutil.rmtree(place)
        except OSError as error:
            raise refused(f"{place} could not be removed.", error) from error
