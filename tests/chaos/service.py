"""`python -m tests.chaos.service order [migrate]`: runs a service as `python -m order_svc` does,
with the times of a short run.

An unpaid order expires within seconds, so that a run covers it. If CHAOS_BUG names a defect, it is
planted (tests/chaos/bugs.py). The services have no code for either.
"""

import importlib
import os
import runpy
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

PAYMENT_WINDOW: Final = timedelta(seconds=20)


def program(service: str) -> Sequence[str]:
    """Returns the command line, for a devstack.stack.Stack."""
    return [sys.executable, "-m", "tests.chaos.service", service]


def main(service: str, arguments: Sequence[str]) -> None:
    """Runs the service in this process."""
    if service == "order":
        from order_svc.decisions import creation

        # `operations` derives a reservation's time from the payment window at its import: it is
        # imported first, so that reservations live as long as in the service.
        importlib.import_module("order_svc.operations.creation")
        creation.PAYMENT_WINDOW = PAYMENT_WINDOW
    if bug := os.environ.get("CHAOS_BUG"):
        from tests.chaos.bugs import plant

        plant(bug, service)
    sys.argv = [f"{service}_svc", *arguments]
    runpy.run_module(f"{service}_svc", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
