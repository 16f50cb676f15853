"""Points at which a test may kill this process, to show that nothing is lost there. In production
each costs one look-up.

docs/architecture.md lists them all.
"""

import os
import signal


def point(name: str) -> None:
    """Kills this process at once if CRASH_AT in the environment names the point
    ("outbox.published:3": the third time).
    """
    where, _, times = os.environ.get("CRASH_AT", "").partition(":")
    if where != name:
        return
    if (remaining := int(times or 1)) > 1:
        os.environ["CRASH_AT"] = f"{name}:{remaining - 1}"
    else:
        os.kill(os.getpid(), signal.SIGKILL)
