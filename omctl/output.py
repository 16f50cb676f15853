"""How answers are shown: tables with lines and colours on a terminal, aligned text in a pipe,
ProtoJSON for scripts.
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
    """Rows of text below their headings. `right`: the columns whose figures stand to the right,
    by number.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int] = frozenset()


def show(table: Table, screen: Console) -> None:
    """Shows the table as fits where it goes."""
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
    # As wide as it is: a terminal that is narrower folds lines, and not what is to be copied from
    # them.
    drawn.width = Measurement.get(screen, screen.options.update(max_width=WIDTH_MAX), drawn).maximum
    screen.print(drawn, soft_wrap=True)


def answer(message: Message, table: Table, *, json: bool) -> None:
    """Shows an answer: as one JSON document, or as the table."""
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
    """Shows the records of a List method: each as a line of JSON as soon as its page is there, or
    all as one table. Afterwards the request's page_token says whether there are more.
    """
    found: list[Any] = []
    async for page in pages:
        found += page
        for each in page if json else ():
            line(each)
    if not json:
        show(view(found), Console())
        more(bool(request.page_token))


def more(left: bool) -> None:
    """Says on stderr that a list was cut, where it was."""
    if left:
        typer.echo("There are more: --limit 0 lists all.", err=True)


def aligned(table: Table) -> Iterator[str]:
    """The table as plain text, a line a row, columns two blanks apart."""
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
    """The text without what would move the cursor, or end the line: names may hold anything."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def document(message: Message) -> None:
    """One JSON document, over several lines."""
    typer.echo(dumps(proto_json(message), indent=2, ensure_ascii=False))


def line(message: Message, **beside: str) -> None:
    """A JSON document on one line, at once; `beside`: what it does not say itself."""
    typer.echo(dumps(beside | proto_json(message), ensure_ascii=False))


def proto_json(message: Message) -> dict[str, Any]:
    """The message as ProtoJSON says, zeros and empty lists included, so that scripts find their
    fields.
    """
    return MessageToDict(message, always_print_fields_with_no_presence=True)


def money(message: MoneyMessage) -> str:
    """12.50 GBP."""
    return str(from_message(message))


def time(message: Timestamp) -> str:
    """In the time zone of whoever looks, with milliseconds."""
    local = message.ToDatetime(tzinfo=UTC).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
