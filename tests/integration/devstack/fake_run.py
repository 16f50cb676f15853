"""`make run` with stand-ins for the services and the demo. Run as `fake_run.py
EXIT_CODE_OF_THE_DEMO ARGUMENTS...`.
"""

import sys
from pathlib import Path

from devstack.__main__ import main

FAKE_SERVICE = Path(__file__).parent / "fake_service.py"

if __name__ == "__main__":
    demo = [
        sys.executable,
        "-c",
        (
            "import os; print('the demo asks', os.environ['ORDER_ADDRESS']); raise"
            f" SystemExit({sys.argv[1]})"
        ),
    ]
    sys.exit(
        main(
            sys.argv[2:],
            program=lambda service: [sys.executable, str(FAKE_SERVICE), service],
            demo=demo,
        )
    )
