"""A PDF of a few lines of text a page: enough for a label of the sandbox.

Text in Latin-1 is set in Helvetica, which every reader has. Other text is set in fonts that the
document embeds, by script: Noto Sans for Latin, Greek and Cyrillic, WenQuanYi Micro Hei for
Chinese, Japanese and Korean, which the extra `cjk` installs. Scripts that need shaping, or run from
the right, are not set: `unprintable_scripts` names them before anything is printed.
"""

import importlib.util
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # it has no types
from fpdf import FPDF
from fpdf.enums import MethodReturnValue

from shipping_svc.model.records import CJK_SCRIPTS

WIDTH, HEIGHT, MARGIN = 288, 432, 24  # points: 4 by 6 inches, what label printers take
SIZES = (12.0, 10.0, 8.0, 6.0)  # the largest at which a page holds its lines is taken
LEADING = 1.4
BUILT_IN = "helvetica"
CREATION_DATE = datetime(
    2026, 1, 1, tzinfo=UTC
)  # the same lines are the same document, whenever it is made


@dataclass(frozen=True, slots=True)
class Font:
    """A font of an installed package, and the code points that it serves: those of scripts that
    need no shaping.
    """

    name: str
    package: str
    file: str
    ranges: tuple[tuple[int, int], ...]

    @property
    def path(self) -> Path | None:
        """Its file; None where the package is not installed."""
        spec = importlib.util.find_spec(self.package)
        return Path(spec.origin).parent / self.file if spec and spec.origin else None

    def covers(self, character: str) -> bool:
        """Whether the character is in its ranges. It prints those that its file has a glyph for."""
        return any(first <= ord(character) <= last for first, last in self.ranges)


FONTS = (
    Font(
        name="noto",
        package="fontpkg_noto_sans",
        file="files/NotoSans[wdth,wght].ttf",  # at its defaults: normal width and weight
        ranges=(
            (0x20, 0x52F),
            (0x1AB0, 0x1AFF),
            (0x1C80, 0x1C8F),
            (0x1D00, 0x2BFF),
            (0x2C60, 0x2C7F),
            (0x2DE0, 0x2E5D),
            (0xA640, 0xA69F),
            (0xA700, 0xA7FF),
            (0xAB30, 0xAB6F),
            (0xFB00, 0xFB06),
            (0xFE20, 0xFE2F),
        ),
    ),
    Font(
        name="cjk",
        package="paperang_p2_fonts_cjk",
        file="fonts/wqy-microhei.ttc",
        ranges=(
            (0x2E80, 0x9FFF),
            (0xAC00, 0xD7A3),
            (0xF900, 0xFAFF),
            (0xFE30, 0xFE4F),
            (0xFF00, 0xFFEF),
        ),
    ),
)


def unprintable_scripts(lines: Sequence[str]) -> list[str]:
    """The scripts of the characters that no installed font can print, sorted; none where all can
    be printed. CJK_SCRIPTS name all that the font of the extra `cjk` has, punctuation too.
    """
    characters = set("".join(map(_printed, lines)))
    lacking = {
        each
        for each in characters
        if not _is_latin1(each) and not any(each in _printable_characters(font) for font in FONTS)
    }
    return sorted(set(map(_script, lacking)))


def is_cjk_installed() -> bool:
    """Whether the font of the extra `cjk` is installed."""
    return FONTS[1].path is not None


def document(pages: Sequence[Sequence[str]]) -> bytes:
    """A PDF with one page for each sequence of lines; long lines are wrapped. All of it must be
    printable.
    """
    shown = [[_printed(line) for line in lines] for lines in pages]
    characters = set("".join(line for lines in shown for line in lines))
    pdf = FPDF(unit="pt", format=(WIDTH, HEIGHT))
    pdf.set_creation_date(CREATION_DATE)
    pdf.set_margin(MARGIN)
    pdf.set_auto_page_break(True, MARGIN)
    name = BUILT_IN
    if not all(map(_is_latin1, characters)):
        fallbacks = [
            font for font in FONTS[1:] if not characters.isdisjoint(_printable_characters(font))
        ]
        for font in (FONTS[0], *fallbacks):
            pdf.add_font(font.name, fname=font.path)
        pdf.set_fallback_fonts([font.name for font in fallbacks], exact_match=False)
        name = FONTS[0].name
    pdf.set_compression(name != BUILT_IN)  # embedded fonts are large; a page of plain text is not
    for lines in shown:
        _draw(pdf, name, lines)
    return bytes(pdf.output())


def _draw(pdf: FPDF, font: str, lines: Sequence[str]) -> None:
    """A page with its lines from the top down.

    The first line should be in the first font: fpdf2 sets the font of a page with the first text
    that is in it, and text of fallback fonts alone before that leaves the page without one.
    """
    pdf.add_page()
    for size in SIZES:
        pdf.set_font(font, size=size)
        if sum(_line_count(pdf, line) for line in lines) * size * LEADING <= HEIGHT - 2 * MARGIN:
            break
    for line in lines:
        pdf.multi_cell(
            0, pdf.font_size_pt * LEADING, line, align="L", new_x="LMARGIN", new_y="NEXT"
        )


def _line_count(pdf: FPDF, line: str) -> int:
    """How many lines it takes."""
    lines = pdf.multi_cell(0, None, line, align="L", dry_run=True, output=MethodReturnValue.LINES)
    assert isinstance(lines, list)
    return len(lines) or 1


def _printed(line: str) -> str:
    """The line as it is printed: accents composed, blanks for control characters, without
    formatting characters, which show nothing.
    """
    kinds = ((each, unicodedata.category(each)) for each in unicodedata.normalize("NFC", line))
    return "".join(
        " " if kind in ("Cc", "Zl", "Zp", "Zs") else each for each, kind in kinds if kind != "Cf"
    )


def _script(character: str) -> str:
    name = unicodedata.name(character, "UNKNOWN").split()[0].partition("-")[0]
    return "CJK" if FONTS[1].covers(character) and name not in CJK_SCRIPTS else name


def _is_latin1(character: str) -> bool:
    return ord(character) <= 0xFF


@cache
def _printable_characters(font: Font) -> frozenset[str]:
    """The characters that the font prints; none where it is not installed."""
    if font.path is None:
        return frozenset()
    with TTFont(font.path, fontNumber=0, lazy=True) as file:
        known = file.getBestCmap()
    return frozenset(filter(font.covers, map(chr, known)))
