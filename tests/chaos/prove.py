"""`python -m tests.chaos.prove [bug ...]`: proves the checker. It plants each defect of bugs.py,
and prints what a short run finds of it.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

from devstack.errors import DevstackError
from tests.chaos.bugs import BUGS, SEED
from tests.chaos.report import Report
from tests.chaos.run import NotStarted, Wanted, run
from tests.support import reachable_folder

CAUGHT, MISSED, USAGE = 0, 1, 2
SHOWN: Final = 2


async def caught(name: str) -> Report:
    """Executes the run for the defect."""
    bug = BUGS[name]
    with reachable_folder("ordermesh-bug-") as folder:
        wanted = Wanted(
            seed=SEED,
            duration_s=bug.duration_s,
            faults=bug.plan(),
            shoppers=bug.scenarios(),
            environment={"CHAOS_BUG": name},
        )
        return await run(wanted, folder)


def main(names: Sequence[str]) -> int:
    """Prints the results for a person at a terminal; the exit code is 1 if a defect was not found,
    or its run did not start.
    """
    if unknown := set(names) - set(BUGS):
        sys.stderr.write(
            f"no such defect: {', '.join(sorted(unknown))}; there are {', '.join(BUGS)}\n"
        )
        return USAGE
    code = CAUGHT
    for name in names or BUGS:
        found, lines = proved(name)
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        code = code if found else MISSED
    return code


def proved(name: str) -> tuple[bool, list[str]]:
    """Returns whether the run found the defect, and its description. A run whose stack does not
    start, or whose services end, compares no records: it finds nothing.
    """
    try:
        report = asyncio.run(caught(name))
    except NotStarted as error:
        return False, [f"{name}: NOT RUN, the stack did not start: {error}"]
    except DevstackError as error:
        return False, [f"{name}: NOT FOUND, the services ended: {error}"]
    return not report.healthy, found_by_check(name, report)


def found_by_check(name: str, report: Report) -> list[str]:
    """Returns the findings by check, and the first of them."""
    checks = Counter(each.check for each in report.differences)
    verdict = ", ".join(f"{count} × {check}" for check, count in checks.most_common()) or "MISSED"
    first = [
        f"    {each.check}: {each.subject}: {each.text}"[:200]
        for each in report.differences[:SHOWN]
    ]
    return [f"{name} ({BUGS[name].guarantee}): {verdict}", *first]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
