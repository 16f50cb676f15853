"""The port to a carrier. An adapter translates; it decides nothing and stores nothing."""

from collections.abc import Sequence
from typing import Protocol

from shipping_svc.model.records import Label, Parcel, RecallAnswer, Recipient


class Carrier(Protocol):
    """A carrier that sells labels, and takes them back. `name` is what shipments, metrics and
    refusals call it.
    """

    @property
    def name(self) -> str: ...

    async def buy_label(
        self, key: str, parcels: Sequence[Parcel], recipient: Recipient, warehouse_id: str
    ) -> Label:
        """One label for all the parcels. The same key again is the same purchase: it answers with
        the same label and costs nothing more.

        Raises Refused CARRIER_REFUSED (metadata: carrier, carrier_code) where the carrier will not
        take them, now or ever; LABEL_NOT_PRINTABLE (carrier_code: the scripts) before the purchase
        where the label cannot show the recipient; and Deferred DEPENDENCY_UNAVAILABLE where it
        cannot be reached now. A caller that has no answer in time does not know the outcome, and
        calls again under the same key.
        """
        ...

    async def recall(
        self, key: str, purchase: str, tracking_number: str | None, *, bring_back: bool
    ) -> RecallAnswer:
        """Asks for the label to be void. Where the carrier has had the parcels it is too late for
        that: it brings them back where it still can, and reports how that ended (RETURNING);
        without `bring_back` it takes them on to their recipient (TOO_LATE).

        `purchase` is the key under which the label was bought. Without a tracking number the
        outcome of the purchase is unknown: the carrier voids and refunds a label that it sold under
        that key, sells none under it any more, and answers VOIDED also where it sold none. The same
        key again is the same recall. Raises Deferred DEPENDENCY_UNAVAILABLE where the carrier
        cannot be reached now. It never refuses: for parcels that it cannot stop any more it answers
        RecallAnswer.RETURNING too, and then reports them as delivered.
        """
        ...
