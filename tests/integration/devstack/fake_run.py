"""`make run` with stand-ins for the services and the demo. Run as `fake_run.py
EXIT_CODE_OF_THE_DEMO ARGUMENTS...`.
"""

import sys
from pathlib import Path

import pytest

from devstack import __main__ as command

FAKE_SERVICE = Path(__file__).parent / "fake_service.py"

if __name__ == "__main__":
    demo = (
        "import os; print('the demo asks', os.environ['ORDER_ADDRESS']); raise"
        f" SystemExit({sys.argv[1]})"
    )
    with pytest.MonkeyPatch.context() as stand_ins:
        stand_ins.setattr(command, "DEMO", [sys.executable, "-c", demo])
        stand_ins.setattr(
            command, "program", lambda service: [sys.executable, str(FAKE_SERVICE), service]
        )
        sys.exit(command.main(sys.argv[2:]))
