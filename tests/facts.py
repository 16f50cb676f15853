"""The facts of all services, for tests that need each of them. No tests here."""

from omctl.audit.facts import Facts, FactsReader


async def complete(facts_reader: FactsReader) -> Facts:
    """All that the services say now. Raises the Failure of the first one that has not answered."""
    facts = await facts_reader.read()
    for gap in facts.gaps:
        raise gap.failure
    return facts
