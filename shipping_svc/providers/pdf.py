"""A PDF of a few lines of plain text a page, without a library: enough for a label of the sandbox.

Text is Windows-1252, which every reader's built-in Helvetica can show; other characters come out as question marks.
"""

from collections.abc import Sequence
from itertools import accumulate

WIDTH, HEIGHT = 288, 432  # points: 4 by 6 inches, what label printers take
MARGIN, SIZE, LEADING = 24, 12, 18


def document(pages: Sequence[Sequence[str]]) -> bytes:
    """A PDF with one page for each sequence of lines; lines that do not fit run out of the page."""
    places = [f"{4 + 2 * page} 0 R" for page in range(len(pages))]
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{' '.join(places)}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for place, lines in enumerate(pages):
        box = f"/MediaBox [0 0 {WIDTH} {HEIGHT}] /Resources << /Font << /F1 3 0 R >> >> /Contents {5 + 2 * place} 0 R"
        content = _content(lines)
        objects += [
            f"<< /Type /Page /Parent 2 0 R {box} >>".encode(),
            b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content),
        ]
    head = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"  # the second line tells tools that the file is binary
    bodies = [b"%d 0 obj\n%b\nendobj\n" % (number, body) for number, body in enumerate(objects, 1)]
    *starts, end = accumulate(map(len, bodies), initial=len(head))
    table = b"".join(b"%010d 00000 n \n" % start for start in starts)
    trailer = b"xref\n0 %d\n0000000000 65535 f \n%btrailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return head + b"".join(bodies) + trailer % (len(objects) + 1, table, len(objects) + 1, end)


def _content(lines: Sequence[str]) -> bytes:
    """The drawing of a page: its lines from the top down."""
    shown = b"\n".join(b"(%b) Tj T*" % _escaped(line) for line in lines)
    return b"BT /F1 %d Tf %d TL %d %d Td\n%b\nET" % (SIZE, LEADING, MARGIN, HEIGHT - MARGIN - SIZE, shown)


def _escaped(line: str) -> bytes:
    """The line as it stands in a PDF's string: printable characters alone, with what would end the string escaped."""
    printable = "".join(character if character.isprintable() else " " for character in line)
    encoded = printable.encode("cp1252", errors="replace")
    return encoded.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
