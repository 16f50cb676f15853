"""Versions of other services' records, as their events state them. Pure."""

from typing import Final

from chassis.values.errors import Refused

# A false version would be stored, and every true event below it would be skipped as an older one.
# So a version may be no more than JUMP_MAX above the stored one.
JUMP_MAX: Final = 10_000
# The first version of a record that a service gets may be much higher. Each scan of units raises a
# fulfilment's version, shipping stores none before `ready`, and a line has up to 1,000,000 units.
FIRST_MAX: Final = 100_000_000


def is_jump(stored: int, stated: int) -> bool:
    """Returns whether `check_jump` refuses the stated version."""
    return stated > (stored + JUMP_MAX if stored else FIRST_MAX)


def check_jump(stored: int, stated: int, record: str) -> None:
    """Raises Refused VERSION_JUMP where the stated version is more than JUMP_MAX above the one that
    is stored here, or above FIRST_MAX where none is stored (0). `record` names the record, for
    people.
    """
    if not is_jump(stored, stated):
        return
    if stored:
        text = (
            f"{record} has version {stored} here, and {stated} was stated: that is more than"
            f" {JUMP_MAX} above it. Where the stated one is true, set the stored one with `omctl"
            " events set-version`, then replay the event; else discard it."
        )
    else:
        text = (
            f"{record} has no version here, and {stated} was stated: a first version is {FIRST_MAX}"
            " at most. Discard the event."
        )
    raise Refused("VERSION_JUMP", text, stored=str(stored), stated=str(stated))
