"""Checks the rules of CONTRIBUTING.md that no linter checks, in the text files of the project.

- No line and no file name has a word of banned_words.txt.
- A line has at most 100 columns. Rows of tables, outputs of programs, addresses and signatures of
  RPCs may be longer.
- A module has at most 400 lines, a module of the tests 500. A function has at most 50 lines without
  its docstring.
- A comprehension has at most two `for`; with two, at most one `if`.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

ROOT = Path(__file__).resolve().parent.parent
WORDS = "tools/banned_words.txt"
# Generated, other people's, and the words themselves.
EXCLUDED = (":!gen", ":!third_party", ":!requirements.lock", f":!{WORDS}")
COLUMNS_MAX = 100
LINES_MAX, TEST_LINES_MAX, FUNCTION_LINES_MAX = 400, 500, 50
ADDRESS = re.compile(r"\S*://\S*")
# By the suffix of a file: lines that may be longer.
LONG_LINES = {
    ".md": re.compile(r"^(?:\|.*|```text\n(?:.*\n)*?```)$", re.MULTILINE),
    ".proto": re.compile(r"^(?: +rpc |option go_package = ).*$", re.MULTILINE),
}
COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def banned_words(root: Path, paths: Sequence[str]) -> Iterator[str]:
    """Yields the banned words in these files and in their names."""
    codespell = [str(Path(sys.executable).with_name("codespell")), "-D", str(ROOT / WORDS)]
    options = ["--regex", "[A-Za-z]+", "--check-hidden", "--stdin-single-line"]
    checked = subprocess.run(
        [*codespell, *options, *paths, "-"],
        cwd=root,
        input="\n".join(paths),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if checked.returncode not in (os.EX_OK, os.EX_DATAERR):  # it has found nothing, or words
        raise subprocess.CalledProcessError(checked.returncode, checked.args)
    for line in checked.stdout.splitlines():
        number, _, what = line.partition(": ")
        yield f"{paths[int(number) - 1]}: its name: {what}" if number.isdecimal() else line


def faults(path: PurePath, text: str) -> Iterator[str]:
    """Yields a sentence for each rule of sizes that a file (its path in the project) breaks."""
    for line, what in sorted((*_wide_lines(path, text), *_python_faults(path, text))):
        yield f"{path}:{line}: {what}"


def _wide_lines(path: PurePath, text: str) -> Iterator[tuple[int, str]]:
    if path.suffix in LONG_LINES:
        text = LONG_LINES[path.suffix].sub(lambda found: "\n" * found[0].count("\n"), text)
    for number, line in enumerate(text.splitlines(), 1):
        if len(ADDRESS.sub("", line)) > COLUMNS_MAX:
            yield number, f"the line has {len(line)} columns, and may have {COLUMNS_MAX}"


def _python_faults(path: PurePath, text: str) -> Iterator[tuple[int, str]]:
    if path.suffix != ".py":
        return
    lines_max = TEST_LINES_MAX if path.parts[0] == "tests" else LINES_MAX
    if (lines := len(text.splitlines())) > lines_max:
        yield lines_max, f"the module has {lines} lines, and may have {lines_max}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if (lines := _lines(node)) > FUNCTION_LINES_MAX:
                what = f"{node.name} has {lines} lines, and may have {FUNCTION_LINES_MAX}"
                yield node.lineno, what
        elif isinstance(node, COMPREHENSIONS):
            loops, conditions = len(node.generators), sum(len(g.ifs) for g in node.generators)
            if loops > 2 or (loops == 2 and conditions > 1):
                yield node.lineno, f"a comprehension has {loops} for and {conditions} if"


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Returns the number of lines of a function from `def` to its end, without its docstring."""

    def lines(node: ast.stmt) -> int:
        return (node.end_lineno or node.lineno) - node.lineno + 1

    docstring = lines(function.body[0]) if ast.get_docstring(function) else 0
    return lines(function) - docstring


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *EXCLUDED],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    paths = [path for path in listed.stdout.splitlines() if (ROOT / path).is_file()]
    found = [*banned_words(ROOT, paths)]
    for path in paths:
        found += faults(PurePath(path), (ROOT / path).read_text())
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
