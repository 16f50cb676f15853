"""Prints answers: tables with lines and colours on a terminal, aligned text in a pipe, ProtoJSON
for scripts.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from json import dumps
from typing import Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money as MoneyMessage
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from chassis.values.money import from_message

WIDTH_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text with headings. `right` are the indexes of the right-aligned columns."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int] = frozenset()


def show(table: Table, screen: Console) -> None:
    """Prints the table: with lines on a terminal, as aligned text elsewhere."""
    if not screen.is_terminal:
        for text in aligned(table):
            typer.echo(text)
        return
    drawn = RichTable(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(table.headings):
        drawn.add_column(
            heading, justify="right" if number in table.right else "left", no_wrap=True
        )
    for row in table.rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    # At full width: a narrower terminal then wraps whole lines, and ids stay intact for copying.
    drawn.width = Measurement.get(screen, screen.options.update(max_width=WIDTH_MAX), drawn).maximum
    screen.print(drawn, soft_wrap=True)


def answer(message: Message, table: Table, *, json: bool) -> None:
    """Prints an answer as one JSON document, or as the table."""
    if json:
        document(message)
    else:
        show(table, Console())


async def listing(
    pages: AsyncIterator[Sequence[Any]],
    request: Any,
    view: Callable[[Sequence[Any]], Table],
    *,
    json: bool,
) -> None:
    """Prints the records of a List method: a line of JSON each as its page arrives, or one table.
    Afterwards the request's page_token is set if there are more.
    """
    found: list[Any] = []
    async for page in pages:
        found += page
        for each in page if json else ():
            line(each)
    if not json:
        show(view(found), Console())
        more(bool(request.page_token))


def more(remaining: bool) -> None:
    """Prints a hint on stderr if --limit cut the list."""
    if remaining:
        typer.echo("There are more: --limit 0 lists all.", err=True)


def aligned(table: Table) -> Iterator[str]:
    """Returns the table as plain text, one line for each row, columns two blanks apart."""
    rows = [[printable(cell) for cell in row] for row in (table.headings, *table.rows)]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        blanks = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = (
            blank + cell if number in table.right else cell + blank
            for number, (cell, blank) in enumerate(zip(row, blanks, strict=True))
        )
        yield "  ".join(cells).rstrip()


def printable(text: str) -> str:
    """Returns the text without control characters and line ends: names may contain any
    character.
    """
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def document(message: Message) -> None:
    """Prints the message as one JSON document of several lines."""
    typer.echo(dumps(proto_json(message), indent=2, ensure_ascii=False))


def line(message: Message, **beside: str) -> None:
    """Prints the message as JSON on one line and flushes it; `beside` are additional fields."""
    typer.echo(dumps(beside | proto_json(message), ensure_ascii=False))


def proto_json(message: Message) -> dict[str, Any]:
    """Returns the message as ProtoJSON, with zeros and empty lists, so that scripts find all
    fields.
    """
    return MessageToDict(message, always_print_fields_with_no_presence=True)


def money(message: MoneyMessage) -> str:
    """12.50 GBP."""
    return str(from_message(message))


def time(message: Timestamp) -> str:
    """Returns the time in the local time zone, with milliseconds."""
    local = message.ToDatetime(tzinfo=UTC).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
