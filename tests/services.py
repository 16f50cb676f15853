"""What tests do to a running service: freeze it, restart it, await its crash. No tests here."""

import asyncio
import signal

from devstack.child import Child
from devstack.processes import Service


def freeze(service: Service) -> None:
    """Freezes the process (SIGSTOP): its connections stay open without answers."""
    _child(service).send(signal.SIGSTOP)


def resume(service: Service) -> None:
    """Resumes a frozen process (SIGCONT)."""
    _child(service).send(signal.SIGCONT)


async def restart(service: Service) -> None:
    """Stops the process and starts it again, and returns when it is SERVING."""
    await service.stop()
    await service.start()


async def crash(service: Service, timeout_s: float) -> int:
    """Waits until the process ends at a crash point (CRASH_AT); returns its exit code.

    Raises TimeoutError after `timeout_s` seconds.
    """
    child = _child(service)
    child.wanted = False
    try:
        async with asyncio.timeout(timeout_s):
            while (code := child.exit_code) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # a process sets no asyncio.Event when it ends
            return code
    finally:
        child.wanted = child.running


def _child(service: Service) -> Child:
    assert service.child is not None, f"{service.name} has not been started"
    return service.child
