"""Calls of the carrier: each has a timeout, and a semaphore limits concurrent calls."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import structlog

from chassis.values.errors import Defect, Deferred, Failure
from shipping_svc.providers.port import Carrier

T = TypeVar("T")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The timeouts of the service in seconds, and the limit on concurrent calls of the carrier.

    `label_timeout_s` is for a whole set of labels, or of recalls, including the wait for a free
    slot. `retry_s` is the pause after the first try without an answer; it doubles with each try.
    `heartbeat_s` is the time without a change after which a watch sends a heartbeat.
    """

    label_timeout_s: float = 5.0
    labels_at_once_max: int = 16
    retry_s: float = 10.0
    heartbeat_s: float = 15.0


class CarrierCalls:
    """Calls the carrier for labels and for recalls."""

    def __init__(self, carrier: Carrier, timeouts: Timeouts) -> None:
        self.carrier, self._timeout_s = carrier, timeouts.label_timeout_s
        self._slots = asyncio.Semaphore(timeouts.labels_at_once_max)

    async def call(
        self, work: Callable[[], Awaitable[T]], count: Callable[[str], None]
    ) -> T | Failure:
        """Returns the answer of `work`, or its failure, which `count` counts.

        A defect of the adapter is a failure of this call alone.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._slots:
                return await work()
        except TimeoutError:
            count("timeout")
            return Deferred(
                "DEPENDENCY_UNAVAILABLE",
                f"{self.carrier.name} has not answered in time.",
                peer=self.carrier.name,
            )
        except Failure as failure:
            count(failure.reason)
            return failure
        except Exception as error:  # noqa: BLE001
            count("defect")
            return Defect(error)


def log_defects(what: str, shipment_ids: Sequence[UUID], outcomes: Sequence[object]) -> None:
    for shipment_id, outcome in zip(shipment_ids, outcomes, strict=True):
        if isinstance(outcome, Defect):
            _log.error(what, shipment_id=str(shipment_id), exc_info=outcome.__cause__)
