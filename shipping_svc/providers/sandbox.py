"""The built-in carrier: it ships nothing, and the recipient's address determines its answer.

country_code AQ                refuses: CARRIER_REFUSED, carrier_code DESTINATION_NOT_SERVED
postal_code SANDBOX-REFUSE     refuses: CARRIER_REFUSED, carrier_code ADDRESS_INVALID
postal_code SANDBOX-SLOW       sells after SLOW_S, which is above every caller's timeout
postal_code SANDBOX-DOWN       is unreachable
postal_code SANDBOX-DOWN-ONCE  is unreachable at the first call of a purchase, then sells
any other                      sells at once, or refuses a recipient that its label cannot print:
                               LABEL_NOT_PRINTABLE

The tracking number follows from the key alone: the same key gives the same label, also after a
restart. A recall before the first report voids the label. After a report the parcels come back, or
do not, as later reports say.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from chassis.values.errors import Deferred, Refused
from shipping_svc.model.records import Label, Parcel, RecallAnswer, Recipient
from shipping_svc.providers import pdf

NAME: Final = "sandbox"
SLOW_S: Final = 30.0


class SandboxCarrier:
    """The sandbox carrier of the table above.

    `is_reported` returns whether a tracking number has a report.
    """

    def __init__(self, is_reported: Callable[[str], Awaitable[bool]]) -> None:
        self._is_reported = is_reported
        self._called: set[str] = set()

    @property
    def name(self) -> str:
        return NAME

    async def buy_label(
        self, key: str, parcels: Sequence[Parcel], recipient: Recipient, warehouse_id: str
    ) -> Label:
        """Returns a PDF label, one page a parcel; its tracking number is SBX and 16 digits."""
        if recipient.country_code == "AQ":
            raise _refused("DESTINATION_NOT_SERVED")
        match recipient.postal_code:
            case "SANDBOX-REFUSE":
                raise _refused("ADDRESS_INVALID")
            case "SANDBOX-SLOW":
                await asyncio.sleep(SLOW_S)
            case "SANDBOX-DOWN":
                raise _unavailable()
            case "SANDBOX-DOWN-ONCE" if key not in self._called:
                self._called.add(key)
                raise _unavailable()
        number = tracking_number_for(key)
        pages = _pages(number, parcels, recipient, warehouse_id)
        if scripts := pdf.unprintable_scripts([line for lines in pages for line in lines]):
            # The refusal names the scripts, because the address itself is personal data.
            raise Refused("LABEL_NOT_PRINTABLE", carrier=NAME, carrier_code=", ".join(scripts))
        # It takes up to half a second of CPU time: a thread leaves the event loop free.
        return Label(number, await asyncio.to_thread(pdf.document, pages), "application/pdf")

    async def recall(
        self, key: str, purchase: str, tracking_number: str | None, *, bring_back: bool
    ) -> RecallAnswer:
        """Returns the answer that follows from the recorded reports, for every key.

        A label of an unknown sale has no report.
        """
        if not await self._is_reported(tracking_number or tracking_number_for(purchase)):
            return RecallAnswer.VOIDED
        return RecallAnswer.RETURNING if bring_back else RecallAnswer.TOO_LATE


def tracking_number_for(purchase: str) -> str:
    """Returns the tracking number of the label that was bought with that key."""
    return f"SBX{int.from_bytes(hashlib.sha256(purchase.encode()).digest()) % 10**16:016}"


def _pages(
    number: str, parcels: Sequence[Parcel], recipient: Recipient, warehouse_id: str
) -> list[list[str]]:
    to = [
        recipient.name,
        *recipient.address_lines,
        f"{recipient.postal_code} {recipient.locality}".strip(),
    ]
    to += [
        line
        for line in (recipient.administrative_area, recipient.country_code, recipient.phone)
        if line
    ]
    return [
        [
            "SANDBOX CARRIER: not a valid postage",
            number,
            f"parcel {place} of {len(parcels)}: {parcel.weight_grams} g",
            f"{parcel.length_mm} x {parcel.width_mm} x {parcel.height_mm} mm",
            "",
            f"from {warehouse_id}",
            "to",
            *to,
        ]
        for place, parcel in enumerate(parcels, 1)
    ]


def _refused(carrier_code: str) -> Refused:
    return Refused(
        "CARRIER_REFUSED",
        f"The sandbox carrier refuses: {carrier_code}.",
        carrier=NAME,
        carrier_code=carrier_code,
    )


def _unavailable() -> Deferred:
    return Deferred("DEPENDENCY_UNAVAILABLE", "The sandbox carrier cannot be reached.", peer=NAME)
