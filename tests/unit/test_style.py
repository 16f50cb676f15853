"""The checks of tools/style.py, which `make check` runs, report each broken rule."""

import subprocess
from pathlib import Path, PurePath

import pytest

from tools import style

WIDE = "x" * 101


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        ("omctl/x.py", "x = 1\n" * 401, "400: the module has 401 lines, and may have 400"),
        ("tests/x.py", "x = 1\n" * 501, "500: the module has 501 lines, and may have 500"),
        (
            "tests/x.py",
            "def f(\n    x: int,\n) -> None:\n    '''Text.'''\n" + "    x = 1\n" * 48,
            "1: f has 51 lines, and may have 50",
        ),
        ("tools/x.py", "[c for a in () for b in a for c in b]", "1: a comprehension has 3 for"),
        ("chassis/x.py", "{b for a in () if a for b in a if b}", "1: a comprehension has 2 for"),
        ("x.py", f"x = {WIDE}", "1: the line has 105 columns, and may have 100"),
        ("docs/x.md", f"text\n{WIDE}", "2: the line has 101 columns, and may have 100"),
        ("docs/x.md", f"```text\n{WIDE}\n```\n{WIDE}", "4: the line has 101 columns"),
        ("proto/x.proto", f"// {WIDE}", "1: the line has 104 columns"),
        ("Makefile", f"# {WIDE}", "1: the line has 103 columns"),
        ("tools/x.sh", f"# https://example.com/ {WIDE}", "1: the line has 124 columns"),
        ("pyproject.toml", f"# {WIDE}", "1: the line has 103 columns"),
    ],
)
def test_each_broken_size_is_reported(path: str, text: str, fault: str) -> None:
    """The check reports each offence with its file and line."""
    [found] = style.faults(PurePath(path), text)
    assert found.startswith(f"{path}:{fault}")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("docs/x.md", f"| {WIDE} |\n```text\n{WIDE}\n```"),
        ("docs/x.md", f"https://example.com/{WIDE}"),
        ("proto/x.proto", f'option go_package = "{WIDE}";\n  rpc {WIDE}'),
        ("chassis/x.py", "[b for a in () for b in a if b]"),
        ("tests/x.py", "def f() -> None:\n    '''Text.\n\n    More.\n    '''\n" + "    f()\n" * 49),
    ],
)
def test_permitted_size_is_not_reported(path: str, text: str) -> None:
    """Tables, outputs, addresses and signatures may be wide; a docstring does not count."""
    assert list(style.faults(PurePath(path), text)) == []


def test_banned_words_in_files_and_names_are_reported(tmp_path: Path) -> None:
    """The check reads files of every kind, hidden folders too, and the names of files."""
    words = (style.ROOT / style.WORDS).read_text().splitlines()
    word, _, hint = words[-1].partition("->")
    paths = [".ci/run", "Makefile", "x.md", "x.proto", "x.py", "x.toml", "x.yaml", f"y/{word}_x.sh"]
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(f"# fine\n# {word}\n")
    assert sorted(style.banned_words(tmp_path, paths)) == sorted(
        [
            *(f"{path}:2: {word} ==> {hint}" for path in paths),
            f"y/{word}_x.sh: its name: {word} ==> {hint}",
        ]
    )


def test_failed_search_for_words_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codespell that ends with an error found nothing: the check fails too."""
    monkeypatch.setattr(style, "WORDS", "tools/no_such_file.txt")
    with pytest.raises(subprocess.CalledProcessError):
        list(style.banned_words(style.ROOT, ["README.md"]))
