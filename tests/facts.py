"""The facts of all services, for tests that need each of them. No tests here."""

from omctl.audit.facts import Facts, FactsReader


async def complete(facts_reader: FactsReader) -> Facts:
    """Returns the present facts of all services. Raises the Failure of the first absent one."""
    facts = await facts_reader.read()
    for gap in facts.gaps:
        raise gap.failure
    return facts
