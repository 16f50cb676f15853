"""A PDF of a few lines of text a page, for labels of the sandbox.

Text in Latin-1 is set in Helvetica, which every reader has. Other text is set in fonts that the
document embeds, by script: Noto Sans for Latin, Greek and Cyrillic, WenQuanYi Micro Hei for
Chinese, Japanese and Korean, which the extra `cjk` installs. Scripts that need shaping, or run from
right to left, are not printable: `unprintable_scripts` returns them.
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

WIDTH, HEIGHT, MARGIN = 288, 432, 24  # points: 4 by 6 inches, a size of label printers
SIZES = (12.0, 10.0, 8.0, 6.0)  # points: a page uses the largest that fits its lines
LEADING = 1.4
BUILT_IN = "helvetica"
# A constant: the same lines give the same document.
CREATION_DATE = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Font:
    """A font of a package, and the code points that it prints: those of scripts without shaping."""

    name: str
    package: str
    file: str
    ranges: tuple[tuple[int, int], ...]

    @property
    def path(self) -> Path | None:
        """The font's file; None where the package is not installed."""
        spec = importlib.util.find_spec(self.package)
        return Path(spec.origin).parent / self.file if spec and spec.origin else None

    def covers(self, character: str) -> bool:
        """Returns whether the character is in its ranges, with or without a glyph in its file."""
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
    """Returns the scripts of the characters that no installed font prints, sorted.

    CJK_SCRIPTS cover all characters of the font of the extra `cjk`, punctuation included.
    """
    characters = set("".join(map(_printed, lines)))
    lacking = {
        each
        for each in characters
        if not _is_latin1(each) and not any(each in _printable_characters(font) for font in FONTS)
    }
    return sorted(set(map(_script, lacking)))


def is_cjk_installed() -> bool:
    """Returns whether the font of the extra `cjk` is installed."""
    return FONTS[1].path is not None


def document(pages: Sequence[Sequence[str]]) -> bytes:
    """Returns a PDF with one page for each sequence of lines; it wraps long lines.

    The lines must have no `unprintable_scripts`.
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
    """Adds a page with its lines from the top down.

    The first line should be in the first font: fpdf2 sets the font of a page with the first text in
    that font. Where text of fallback fonts comes first, the page has no font.
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
    """Returns the number of printed lines of a line."""
    lines = pdf.multi_cell(0, None, line, align="L", dry_run=True, output=MethodReturnValue.LINES)
    assert isinstance(lines, list)
    return len(lines) or 1


def _printed(line: str) -> str:
    """Returns the line as it is printed.

    Accents are composed, control characters are blanks, and invisible formatting characters go.
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
    """Returns the characters that the font prints; none where it is not installed."""
    if font.path is None:
        return frozenset()
    with TTFont(font.path, fontNumber=0, lazy=True) as file:
        code_points = file.getBestCmap()
    return frozenset(filter(font.covers, map(chr, code_points)))
