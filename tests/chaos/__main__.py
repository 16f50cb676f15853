"""`python -m tests.chaos`: one run of DURATION seconds with the seed SEED (random if it is unset).
`make chaos` calls it.
"""

import asyncio
import os
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Final

from devstack.errors import DevstackError
from tests.chaos.run import by_chance, run
from tests.support import reachable_folder

KEPT: Final = Path(__file__).parents[2] / ".ordermesh" / "chaos"
OK, DIFFERS, USAGE, INTERRUPTED = 0, 1, 2, 130


def main() -> int:
    """Prints the run for a person at a terminal; the exit code is 1 if anything differs."""
    try:
        seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
        duration_s, rate = (
            float(os.environ.get("DURATION") or 60),
            float(os.environ.get("RATE") or 3),
        )
    except ValueError as error:
        sys.stderr.write(
            f"SEED, DURATION (seconds) and RATE (orders a second) are numbers: {error}\n"
        )
        return USAGE
    _say(
        f"seed {seed}: {duration_s:.0f} s of faults; again with: make chaos SEED={seed}"
        f" DURATION={duration_s:.0f} RATE={rate:g}"
    )
    results = KEPT / f"{time.strftime('%Y%m%d-%H%M%S')}-{seed}"
    results.mkdir(parents=True)
    with reachable_folder("ordermesh-chaos-") as folder:
        try:
            report = asyncio.run(run(by_chance(seed, duration_s, rate), folder))
        except DevstackError as error:
            sys.stderr.write(f"{error}\n")
            return DIFFERS
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            if (folder / "logs").exists():
                shutil.copytree(folder / "logs", results / "logs")
    text = "\n".join(report.lines())
    _say(text)
    (results / "report.txt").write_text(text + "\n")
    (results / "report.json").write_text(report.document() + "\n")
    _say(f"stored in {results.relative_to(KEPT.parents[1])}")
    return OK if report.healthy else DIFFERS


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
