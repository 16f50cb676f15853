"""The sandbox carrier: the behaviour of its table, and labels that a PDF reader opens."""

import asyncio
import io
import re
import unicodedata
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # it has no types
from fpdf import FPDF
from pypdf import PdfReader

from chassis.values.errors import Deferred, Refused
from shipping_svc.model.records import Label, RecallAnswer, Recipient
from shipping_svc.providers import sandbox
from shipping_svc.providers.pdf import FONTS, HEIGHT, MARGIN, WIDTH, Font, document
from shipping_svc.providers.sandbox import SandboxCarrier
from tests.unit.shipping.samples import PARCELS

ADA = Recipient(
    name="Ada (née) Köhler \\ Söhne",
    address_lines=("1 High Street",),
    locality="Dover",
    administrative_area="Kent",
    postal_code="CT16 1AA",
    country_code="GB",
    phone="+44 1",
)


def carrier_of(*reported: str) -> SandboxCarrier:
    """Returns the sandbox, with reports of these tracking numbers."""

    async def is_reported(tracking_number: str) -> bool:
        return tracking_number in reported

    return SandboxCarrier(is_reported)


async def buy(carrier: SandboxCarrier, key: str = "shipment:1", **where: Any) -> Label:
    return await carrier.buy_label(key, PARCELS, replace(ADA, **where), "W1")


async def test_same_key_is_the_same_purchase() -> None:
    """A label bought twice under one key is one label, also after a restart of the carrier; another
    key is another label.
    """
    first, again = await buy(carrier_of()), await buy(carrier_of())
    assert first == again
    assert (await buy(carrier_of(), "shipment:2")).tracking_number != first.tracking_number
    assert re.fullmatch(r"SBX[0-9]{16}", first.tracking_number)


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ({"country_code": "AQ"}, "DESTINATION_NOT_SERVED"),
        ({"postal_code": "SANDBOX-REFUSE"}, "ADDRESS_INVALID"),
    ],
)
async def test_sandbox_refuses_as_its_table_states(where: dict[str, str], code: str) -> None:
    """A refusal has the carrier and its code."""
    with pytest.raises(Refused) as refused:
        await buy(carrier_of(), **where)
    assert (refused.value.reason, refused.value.metadata) == (
        "CARRIER_REFUSED",
        {"carrier": "sandbox", "carrier_code": code},
    )


async def test_sandbox_is_down_once_for_each_key_or_always() -> None:
    """DOWN-ONCE fails only the first call of each key; DOWN fails every call."""
    carrier = carrier_of()
    for key in ("a", "b"):
        with pytest.raises(Deferred) as away:
            await buy(carrier, key, postal_code="SANDBOX-DOWN-ONCE")
        assert (away.value.reason, away.value.metadata) == (
            "DEPENDENCY_UNAVAILABLE",
            {"peer": "sandbox"},
        )
        assert (await buy(carrier, key, postal_code="SANDBOX-DOWN-ONCE")).content
        for _ in range(2):
            with pytest.raises(Deferred):
                await buy(carrier, key, postal_code="SANDBOX-DOWN")


async def test_slow_sandbox_exceeds_a_short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLOW exceeds the timeout of one caller, and sells to another with a longer one."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(buy(carrier_of(), postal_code="SANDBOX-SLOW"), 0.01)
    monkeypatch.setattr(sandbox, "SLOW_S", 0)
    assert (await buy(carrier_of(), postal_code="SANDBOX-SLOW")).content


async def test_recall_before_the_first_report_voids_the_label() -> None:
    """A label without a report is void after each recall. Afterwards the parcels are brought back,
    or go on to their recipient, as requested.
    """
    carrier = carrier_of("SBX1")
    for bring_back in (True, False):
        assert [
            await carrier.recall(key, "p", "SBX0", bring_back=bring_back) for key in ("a", "a", "b")
        ] == [RecallAnswer.VOIDED] * 3
    assert await carrier.recall("a", "p", "SBX1", bring_back=True) is RecallAnswer.RETURNING
    assert await carrier.recall("a", "p", "SBX1", bring_back=False) is RecallAnswer.TOO_LATE


async def test_recall_of_unknown_sale_is_void() -> None:
    """The recall needs only the key of its purchase, with or without a sale."""
    carrier = carrier_of()
    await buy(carrier, "sold")
    assert [
        await carrier.recall("a", purchase, None, bring_back=True) for purchase in ("sold", "never")
    ] == [RecallAnswer.VOIDED] * 2


async def test_label_has_a_page_for_each_parcel() -> None:
    """A page shows the tracking number, the parcel and the address."""
    label = await buy(carrier_of())
    assert label.content_type == "application/pdf"
    first, second = shown(label.content)
    assert label.tracking_number in first
    assert "parcel 2 of 2: 50 g" in second
    assert "Ada (née) Köhler \\ Söhne" in first
    assert "CT16 1AA Dover" in first


NAMES = ("서울특별시", "Żółć", "Jiří", "Ελλάδα", "Москва", "Đặng", "東京都渋谷区", "北京市", "José")


@pytest.mark.parametrize("name", NAMES)
async def test_names_are_printed_in_their_script(name: str) -> None:
    """Names are printed as the recipient writes them, beside an address in Latin letters, without a
    question mark.
    """
    label = await buy(carrier_of(), name=name, address_lines=(f"{name} 7, Dover {name}", name))
    text = shown(label.content)[0]
    assert f"{name} 7, Dover {name}\n{name}\n" in text
    assert "?" not in text
    assert f"\n{name}\n" in text.replace("to\n", "to\n\n")


async def test_decomposed_accents_are_printed_composed() -> None:
    """e and a combining acute accent are one letter on the label, and so are the jamo of a
    syllable.
    """
    jamo = unicodedata.normalize("NFD", "서울")
    label = await buy(carrier_of(), name="Jose\u0301", address_lines=(jamo,))
    assert "José\n서울\n" in shown(label.content)[0]


@pytest.mark.parametrize("line", ["x" * 200, "ab " * 66, "漢" * 200, "Ж" * 200])
def test_long_lines_are_wrapped_inside_the_margins(line: str) -> None:
    """Lines of 200 characters, one word or many, are wrapped inside the margins, all on one
    page.
    """
    content = document([["first", *[line] * 6, "last"]])
    [page] = PdfReader(io.BytesIO(content)).pages
    places: list[tuple[float, float, float]] = []
    page.extract_text(
        visitor_text=lambda text, _cm, tm, font, size: (
            places.append((tm[4], tm[4] + width(text.strip(), font["/BaseFont"], size), tm[5]))
            if text.strip()
            else None
        )
    )
    text = page.extract_text()
    assert text.split() == ["first", *"".join([line] * 6).split(), "last"] or "".join(
        text.split()
    ) == "".join(["first", *[line] * 6, "last"]).replace(" ", "")
    assert all(
        MARGIN - 1 <= left < right <= WIDTH - MARGIN + 1 and MARGIN - 1 <= y <= HEIGHT - MARGIN
        for left, right, y in places
    )


def width(text: str, base_font: str, size: float) -> float:
    """Returns the points of a text in the document's font of this name."""
    if base_font == "/Helvetica":
        pdf = FPDF(unit="pt")
        pdf.set_font("helvetica", size=size)
        return pdf.get_string_width(text)
    advances = advances_of(FONTS[0] if "NotoSans" in base_font else FONTS[1])
    return sum(advances[each] for each in text) * size


@cache
def advances_of(font: Font) -> dict[str, float]:
    """Returns the width of each of the font's characters at size 1."""
    with TTFont(font.path, fontNumber=0, lazy=True) as file:
        em, glyphs = file["head"].unitsPerEm, file["hmtx"]
        return {chr(code): glyphs[glyph][0] / em for code, glyph in file.getBestCmap().items()}


@pytest.mark.parametrize(
    ("text", "scripts"),
    [
        ("سلام", ["ARABIC"]),
        ("नमस्ते Ada", ["DEVANAGARI"]),
        ("שלום ไทย", ["HEBREW", "THAI"]),
        ("Ada \U0001f600", ["GRINNING"]),
        ("𠮷野家", ["CJK"]),
    ],
)
async def test_unprintable_script_is_refused_before_the_purchase(
    text: str, scripts: list[str]
) -> None:
    """Scripts that need shaping, or run from right to left, are refused. The refusal has the
    scripts, and no part of the address.
    """
    with pytest.raises(Refused) as refused:
        await buy(carrier_of(), address_lines=(text,))
    assert refused.value.reason == "LABEL_NOT_PRINTABLE"
    assert refused.value.metadata == {"carrier": "sandbox", "carrier_code": ", ".join(scripts)}


async def test_without_the_extra_cjk_is_not_bought(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the font for Chinese, Japanese and Korean these scripts are refused; other scripts
    are printed.
    """
    monkeypatch.setattr(
        "shipping_svc.providers.pdf.FONTS", (FONTS[0], replace(FONTS[1], package="not_installed"))
    )
    for name, scripts in (
        ("서울특별시", "HANGUL"),
        ("「東京都」１−２、ㄅ", "CJK"),
        ("ひらがなー", "HIRAGANA, KATAKANA"),
    ):
        with pytest.raises(Refused) as refused:
            await buy(carrier_of(), name=name)
        assert refused.value.metadata["carrier_code"] == scripts
    assert "Żółć" in shown((await buy(carrier_of(), name="Żółć")).content)[0]


@pytest.mark.parametrize(
    "pages", [[["one"]], [["日本"], ["a\nb\0c", "(", "\\"]], [[]], [["x"] * 40] * 10]
)
def test_every_document_is_a_valid_file(pages: list[list[str]]) -> None:
    """A reader opens it, with at least one page for each parcel; the same lines make the same
    bytes.
    """
    content = document(pages)
    assert len(PdfReader(io.BytesIO(content), strict=True).pages) >= len(pages)
    assert document(pages) == content


def test_repr_hides_recipient() -> None:
    """The repr of a recipient or a label, as in a log line or a traceback, hides the person."""
    shown = repr(ADA) + repr(Label("SBX1", b"Ada", "application/pdf")) + f"{ADA} {[ADA]!r}"
    assert "Ada" not in shown
    assert "SBX1" in shown


def shown(content: bytes) -> list[str]:
    """Returns the text of each page, as a PDF reader extracts it."""
    return [page.extract_text() for page in PdfReader(io.BytesIO(content), strict=True).pages]
