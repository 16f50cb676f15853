"""Inspections of packages, and the units that they find spoiled."""

from dataclasses import replace

from chassis.values.decision import Done, unwrap
from chassis.values.envelope import Envelope
from chassis.write.database import Database
from chassis.write.writer import Writer
from fulfillment_svc.decisions.transitions import require_version
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model.commands import RecordInspection, RecordSpoiled
from fulfillment_svc.model.records import Fulfillment, OrderFulfillments, SpoiledLine
from fulfillment_svc.operations.reading import ReadOperations
from fulfillment_svc.operations.staff import StaffOperations
from fulfillment_svc.peers import Warehouse


class InspectionOperations:
    """The operation of an inspection."""

    def __init__(
        self,
        database: Database,
        writer: Writer[OrderFulfillments],
        warehouse: Warehouse,
        reading: ReadOperations,
        staff: StaffOperations,
    ) -> None:
        self.database, self.writer, self.warehouse = database, writer, warehouse
        self.reading, self.staff = reading, staff

    async def inspect(self, envelope: Envelope[RecordInspection]) -> Fulfillment:
        """The fulfilment after an inspection. The warehouse posts spoiled units and replaces them.

        The spoiled units are stored first. Until the warehouse's answer is written, no inspection
        passes or fails the packages; the next one asks the warehouse again.
        Raises Deferred where the warehouse cannot be reached.
        """
        async with self.database.read() as connection:
            done = await self.database.was_done(connection, envelope.key)
        if done:
            return await self.staff.change(envelope)
        fulfillment, recorded_before = await self._record_spoiled(envelope)
        spoiled_lines = [
            SpoiledLine(line.line_number, line.spoiled + line.unposted_spoiled, line.short)
            for line in fulfillment.lines
            if line.unposted_spoiled
        ]
        if spoiled_lines and fulfillment.status is Status.PACKED:
            replaced_lines = await self.warehouse.replace_spoiled(fulfillment.key, spoiled_lines)
            # What the warehouse posted has to be written here, at any version of the fulfilment.
            answered = replace(
                envelope.command, replaced_lines=replaced_lines, expected_version=None
            )
            envelope = envelope.with_command(answered)
        elif recorded_before and not spoiled_lines:
            # Another request wrote the posting of these units, or they have left the picklist.
            return fulfillment
        return await self.staff.change(envelope)

    async def _record_spoiled(
        self,
        envelope: Envelope[RecordInspection],
    ) -> tuple[Fulfillment, bool]:
        """The fulfilment with its spoiled units, and whether an earlier try of this request stored
        them.
        """
        command = envelope.command
        if not command.spoiled:
            fulfillment = await self.reading.get_fulfillment(envelope.target)
            require_version(fulfillment, command)
            return fulfillment, False
        record_spoiled = RecordSpoiled(
            expected_version=command.expected_version,
            spoiled=command.spoiled,
        )
        [outcome] = await self.writer.write([envelope.step("spoiled", record_spoiled)])
        recorded = unwrap(outcome).find(envelope.target)
        assert recorded, "units are stored only where there is a fulfilment"
        return recorded, isinstance(outcome, Done) and outcome.repeat
