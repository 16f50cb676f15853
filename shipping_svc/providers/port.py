"""The port to a carrier. An adapter translates calls and answers, and stores no data."""

from collections.abc import Sequence
from typing import Protocol

from shipping_svc.model.records import Label, Parcel, RecallAnswer, Recipient


class Carrier(Protocol):
    """A carrier that sells labels and takes them back.

    `name` is its name in shipments, metrics and refusals.
    """

    @property
    def name(self) -> str: ...

    async def buy_label(
        self, key: str, parcels: Sequence[Parcel], recipient: Recipient, warehouse_id: str
    ) -> Label:
        """Returns one label for all the parcels.

        The same key again is the same purchase: it returns the same label at no further cost. A
        caller without an answer in time calls again with the same key.

        Raises Refused CARRIER_REFUSED (metadata: carrier, carrier_code) where the carrier does not
        accept the parcels, now or later. Raises Refused LABEL_NOT_PRINTABLE (carrier_code: the
        scripts), before the purchase, where the label cannot show the recipient. Raises Deferred
        DEPENDENCY_UNAVAILABLE where the carrier is unreachable now.
        """

    async def recall(
        self, key: str, purchase: str, tracking_number: str | None, *, bring_back: bool
    ) -> RecallAnswer:
        """Asks the carrier to void the label, and returns its answer.

        Where the carrier has the parcels already, it does not void the label. With `bring_back` it
        brings them back where it still can, and reports the end (RETURNING). Without it the parcels
        go on to their recipient (TOO_LATE). It never refuses: for parcels that it cannot stop any
        more it also answers RETURNING, and then reports them as delivered.

        `purchase` is the key with which the label was bought. Without a tracking number the outcome
        of the purchase is unknown. Then the carrier voids and refunds a label that it sold with
        that key, and sells none with it any more. It answers VOIDED also where it sold none.

        The same key again is the same recall. Raises Deferred DEPENDENCY_UNAVAILABLE where the
        carrier is unreachable now.
        """
