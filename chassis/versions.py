"""Versions of other services' records, as their events state them. Pure."""

from chassis.errors import Refused

# A record never changes so often between two events that one consumer gets. A version from nowhere
# would be stored, and every true event after it would be skipped as an older one.
JUMP_MAX = 10_000


def check_jump(stored: int, stated: int, record: str) -> None:
    """Raises Refused VERSION_JUMP where the version that was stated is more than JUMP_MAX above the
    one that is stored here (0: none is). `record` names whose version it is, for people.
    """
    if stated > stored + JUMP_MAX:
        raise Refused(
            "VERSION_JUMP",
            f"{record} has version {stored} here, and {stated} was stated: that is more than {JUMP_MAX} above it. Where the "
            "stated one is true, set the stored one with `omctl events set-version`, then replay the event; else discard it.",
            stored=str(stored),
            stated=str(stated),
        )
