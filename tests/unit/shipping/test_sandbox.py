"""The sandbox carrier: the behaviours that its table promises, and labels that a PDF reader opens."""

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest

from chassis.errors import Deferred, Refused
from shipping_svc.model import Label, Recalled, Recipient
from shipping_svc.providers.pdf import document
from shipping_svc.providers.sandbox import SandboxCarrier
from tests.unit.shipping.samples import PARCELS

ADA = Recipient("Ada (née) Köhler \\ Söhne", ("1 High Street",), "Dover", "Kent", "CT16 1AA", "GB", "+44 1")


def carrier_of(*reported: str, **more: Any) -> SandboxCarrier:
    """The sandbox, where something was reported of these tracking numbers."""

    async def is_reported(tracking_number: str) -> bool:
        return tracking_number in reported

    return SandboxCarrier(is_reported, **more)


async def buy(carrier: SandboxCarrier, key: str = "shipment:1", **where: Any) -> Label:
    return await carrier.buy_label(key, PARCELS, replace(ADA, **where), "W1")


async def test_the_same_key_is_the_same_purchase() -> None:
    """A label bought twice under one key is one label, also from a carrier that was restarted between; another key is another."""
    first, again = await buy(carrier_of()), await buy(carrier_of())
    assert first == again
    assert (await buy(carrier_of(), "shipment:2")).tracking_number != first.tracking_number
    assert re.fullmatch(r"SBX[0-9]{16}", first.tracking_number)


@pytest.mark.parametrize(
    ("where", "code"), [({"country_code": "AQ"}, "DESTINATION_NOT_SERVED"), ({"postal_code": "SANDBOX-REFUSE"}, "ADDRESS_INVALID")]
)
async def test_it_refuses_where_its_table_says(where: dict[str, str], code: str) -> None:
    """A refusal names the carrier and its code."""
    with pytest.raises(Refused) as refused:
        await buy(carrier_of(), **where)
    assert (refused.value.reason, refused.value.metadata) == ("CARRIER_REFUSED", {"carrier": "sandbox", "carrier_code": code})


async def test_it_is_down_once_for_each_key_or_for_ever() -> None:
    """DOWN-ONCE fails the first call of each key alone; DOWN fails every call."""
    carrier = carrier_of()
    for key in ("a", "b"):
        with pytest.raises(Deferred) as away:
            await buy(carrier, key, postal_code="SANDBOX-DOWN-ONCE")
        assert (away.value.reason, away.value.metadata) == ("DEPENDENCY_UNAVAILABLE", {"peer": "sandbox"})
        assert (await buy(carrier, key, postal_code="SANDBOX-DOWN-ONCE")).content
        for _ in range(2):
            with pytest.raises(Deferred):
                await buy(carrier, key, postal_code="SANDBOX-DOWN")


async def test_it_is_slow() -> None:
    """SLOW outlasts a caller that waits less, and sells to one that waits."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(buy(carrier_of(), postal_code="SANDBOX-SLOW"), 0.01)
    assert (await buy(carrier_of(slow_s=0), postal_code="SANDBOX-SLOW")).content


async def test_a_label_is_void_until_the_first_report() -> None:
    """Recalled before anything was reported of it, a label is void, however often it is asked; afterwards the parcels are brought back."""
    carrier = carrier_of("SBX1")
    assert [await carrier.recall(key, "p", "SBX0") for key in ("a", "a", "b")] == [Recalled.VOIDED] * 3
    assert await carrier.recall("a", "p", "SBX1") is Recalled.RETURNING


async def test_what_nobody_has_heard_of_is_void() -> None:
    """Recalled by the key of its purchase alone, whether it was sold or not."""
    carrier = carrier_of()
    await buy(carrier, "sold")
    assert [await carrier.recall("a", purchase, None) for purchase in ("sold", "never")] == [Recalled.VOIDED] * 2


async def test_the_label_is_a_document_with_a_page_for_each_parcel() -> None:
    """It shows the tracking number, the parcel and the address, each with what a PDF string must escape escaped."""
    label = await buy(carrier_of())
    objects = parse(label.content)
    assert label.content_type == "application/pdf"
    pages = [body for body in objects if b"/Type /Page " in body]
    drawings = [body for body in objects if b"stream" in body]
    assert len(pages) == len(drawings) == len(PARCELS)
    assert label.tracking_number.encode() in drawings[0]
    assert b"parcel 2 of 2: 50 g" in drawings[1]
    assert "(Ada \\(née\\) Köhler \\\\ Söhne) Tj".encode("cp1252") in drawings[0]
    assert b"(CT16 1AA Dover) Tj" in drawings[0]


@pytest.mark.parametrize("pages", [[["one"]], [["日本"], ["a\nb\0c", "(", "\\"]], [[]], [["x"] * 40] * 100])
def test_every_document_is_a_valid_file(pages: list[list[str]]) -> None:
    """The cross-reference table points at every object, each stream is as long as it says, whatever the text."""
    parse(document(pages))


def test_nobody_is_shown_by_accident() -> None:
    """Neither a recipient nor a label tells who it is for when it lands in a log line or a traceback."""
    shown = repr(ADA) + repr(Label("SBX1", b"Ada", "application/pdf")) + f"{ADA} {[ADA]!r}"
    assert "Ada" not in shown
    assert "SBX1" in shown


def parse(content: bytes) -> list[bytes]:
    """The bodies of the document's objects, read as a PDF reader does: from the end, by the table of places."""
    assert content.startswith(b"%PDF-1.4\n")
    end = re.search(rb"startxref\n(\d+)\n%%EOF\n\Z", content)
    assert end
    table = re.match(rb"xref\n0 (\d+)\n0000000000 65535 f \n((?:\d{10} 00000 n \n)*)trailer\n", content[int(end[1]) :])
    assert table
    places = [int(line[:10]) for line in table[2].splitlines()]
    assert len(places) + 1 == int(table[1])
    bodies = []
    for number, place in enumerate(places, 1):
        body = re.match(rb"%d 0 obj\n(.*?)\nendobj\n" % number, content[place:], re.DOTALL)
        assert body
        if stream := re.match(rb"<< /Length (\d+) >>\nstream\n", body[1]):
            assert body[1][stream.end() + int(stream[1]) :] == b"\nendstream"
        bodies.append(body[1])
    return bodies
