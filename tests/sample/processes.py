"""The start and the end of the sample service as a process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sample_process(
    database_url: str, nats_url: str, *rest: str, crash_at: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """Runs the sample service as a process inside, and kills it afterwards in any state."""
    command = [sys.executable, "-m", "tests.sample.process", database_url, nats_url, *rest]
    environment = os.environ | ({"CRASH_AT": crash_at} if crash_at else {})
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
