"""Tables: lines and colours on a terminal, aligned text elsewhere."""

import io

from rich.console import Console

from omctl.output import Table, aligned, printable, show

TABLE = Table(("SKU", "UNITS"), [("[bold]茶壶", "7"), ("A", "1000")], frozenset({1}))


def test_text_is_aligned() -> None:
    """A column is as wide as its widest cell on the screen, with wide characters; figures are
    aligned right.
    """
    assert list(aligned(TABLE)) == ["SKU         UNITS", "[bold]茶壶      7", "A            1000"]


def test_terminal_gets_a_table() -> None:
    """On a terminal headings are bold, and text with the syntax of rich's markup is shown
    unchanged.
    """
    screen = Console(file=io.StringIO(), force_terminal=True, width=80, legacy_windows=False)
    show(TABLE, screen)
    drawn = screen.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert "\x1b[1m" in drawn
    assert "[bold]茶壶" in drawn


def test_narrow_terminal_folds_long_rows() -> None:
    """The terminal folds rows wider than itself: the output has every character, unbroken."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=20, legacy_windows=False)
    show(Table(("ID", "SKU"), [("01890000-0000-7000-8000-000000000001", "B"), ("2", "C")]), screen)
    # the StringIO above
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 3
    assert lines[1].split() == ["01890000-0000-7000-8000-000000000001", "B"]


def test_names_cannot_move_the_cursor() -> None:
    """Control characters in a name are escaped."""
    assert printable("a\x1b[2Jb\nc\td é 茶") == "a\ufffd[2Jb\ufffdc\ufffdd é 茶"


def test_empty_table_is_its_headings() -> None:
    """A list without an entry has its headings."""
    assert list(aligned(Table(("SKU", "UNITS"), []))) == ["SKU  UNITS"]
