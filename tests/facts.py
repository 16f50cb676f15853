"""The facts of all services, for tests that need each of them. No tests here."""

from omctl.audit.facts import Facts, Witnesses


async def complete(witnesses: Witnesses) -> Facts:
    """All that the services say now. Raises the Failure of the first one that has not answered."""
    facts = await witnesses.read()
    for gap in facts.gaps:
        raise gap.failure
    return facts
