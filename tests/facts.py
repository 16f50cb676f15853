"""The facts of all services, for tests that need each of them. No tests here."""

from omctl.audit.facts import Facts, Witnesses


async def complete(witnesses: Witnesses) -> Facts:
    """Returns the present facts of all services. Raises the Failure of the first absent one."""
    facts = await witnesses.read()
    for gap in facts.gaps:
        raise gap.failure
    return facts
