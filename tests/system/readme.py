"""The blocks of a page, a terminal to paste them into, a run of its programs, and the comparison of
outputs. No tests here.
"""

import asyncio
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.settings import METRICS_PORTS, NATS_PORT, POSTGRES_PORT, SERVICE_PORTS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs/tutorial.md"
# The ports of `make run`, by the variable that changes each.
PORTS = {
    **{f"{name.upper()}_PORT": port for name, port in SERVICE_PORTS.items()},
    **{f"{name.upper()}_METRICS_PORT": port for name, port in METRICS_PORTS.items()},
    "POSTGRES_PORT": POSTGRES_PORT,
    "NATS_PORT": NATS_PORT,
}
BLOCK = re.compile(r"^```([^`\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
BLOCK_TIMEOUT_S = 120.0
PROGRAM_TIMEOUT_S = 60.0
# The binary of requirements-test.txt is for these; on other platforms buf curl executes everything.
HAS_GRPCURL = platform.system() == "Linux" and platform.machine() == "x86_64"
# The parts that differ in each run, in the order of their replacement.
VARIABLE = (
    (r"\b\w+_(ADDRESS|URL)=\S+ ", ""),  # `make run` prints these if its ports are changed
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>"),
    (r"\bOM(-[0-9A-Z]{5}){3}\b", "<order number>"),
    (r"\bSBX\d{16}\b", "<tracking number>"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)|\b\d\d:\d\d:\d\d\.\d+", "<time>"),
    # Two events about the same fact, in either order.
    (r"\b(FULFILLMENT_[A-Z]+|SHIPMENT_CREATED)\b( +\(by \w+)?", "<news>"),
    (r"\d+(\.\d+)?", "<number>"),
    (r"[ \t]+", " "),
    (r" $", ""),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its language (empty: none), its text, its section, and its file and line."""

    language: str
    text: str
    section: str
    place: str


def blocks(page: Path) -> list[Block]:
    """Returns the blocks of the page, in their order."""
    text = page.read_text()
    headings = [(found.start(), found[1]) for found in HEADING.finditer(text)]
    return [
        Block(
            language=found[1],
            text=found[2],
            section=next((name for start, name in reversed(headings) if start < found.start()), ""),
            place=f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}",
        )
        for found in BLOCK.finditer(text)
    ]


def with_outputs(of: list[Block]) -> Iterator[tuple[Block, str | None]]:
    """Returns the blocks to execute, each with the output that the page shows: the following text
    block.
    """
    for block, follower in zip(of, [*of[1:], None], strict=True):
        if block.language in ("bash", "python"):
            yield block, follower.text if follower and follower.language == "text" else None


def moved(text: str, ports: Mapping[int, int]) -> str:
    """Returns the text with the ports of `make run` replaced by others. Raises KeyError for a
    port of `make run` that has no other.
    """
    known = "|".join(str(port) for port in PORTS.values())
    return re.sub(rf"\b({known})\b", lambda found: str(ports[int(found[0])]), text)


def pattern(output: str) -> str:
    """Returns a pattern for outputs of the same command: without ids, times, numbers and the width
    of columns.
    """
    for what, instead in VARIABLE:
        output = re.sub(what, instead, output, flags=re.MULTILINE)
    return output.strip()


class Terminal:
    """A bash that blocks are pasted into, in order: variables and functions of a block exist in the
    next.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """`folder` takes the terminal's files; commands run in the project's root."""
        self._folder, self._environment = folder, dict(environment)
        self._errors = folder / "errors"

    async def __aenter__(self) -> Self:
        with self._errors.open("wb") as errors:
            self._bash = await asyncio.create_subprocess_exec(
                *("bash", "--noprofile", "--norc"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env=self._environment,
            )
        # no reader watches this shell, so it stops at the first failure
        self._send("set -euo pipefail")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bash.returncode is None:
            self._bash.kill()
        await self._bash.wait()

    async def paste(self, text: str) -> str:
        """Runs the text, and returns its stdout. Raises AssertionError if one of its commands
        fails.
        """
        end = "the block has ended"
        (self._folder / "block").write_text(text)
        self._send(f"source {self._folder}/block < /dev/null; echo; echo '{end}'")
        printed: list[str] = []
        assert self._bash.stdout is not None
        try:
            async with asyncio.timeout(BLOCK_TIMEOUT_S):
                while (line := (await self._bash.stdout.readline()).decode()) != f"{end}\n":
                    assert line, (
                        f"a command failed:\n{text}\n{''.join(printed)}{self._errors.read_text()}"
                    )
                    printed.append(line)
        except TimeoutError:
            raise AssertionError(
                f"it did not end:\n{text}\n{''.join(printed)}{self._errors.read_text()}"
            ) from None
        return "".join(printed)

    def _send(self, command: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{command}\n".encode())


async def run_program(
    folder: Path,
    environment: Mapping[str, str],
    text: str,
    *arguments: str,
    enough: Callable[[list[str]], bool] | None = None,
) -> str:
    """Returns the output of the Python program: to its end, or until the lines are `enough`.

    `folder` takes the program. Raises AssertionError if it fails, TimeoutError if it does not end.
    """
    (folder / "page.py").write_text(text)
    printed: list[str] = []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(folder / "page.py"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PROGRAM_TIMEOUT_S):
            async for line in process.stdout:
                printed.append(line.decode())
                if enough and enough(printed):
                    break
            else:
                assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return "".join(printed)


async def execute(
    block: Block,
    text: str,
    shown: str | None,
    terminal: Terminal,
    folder: Path,
    environment: Mapping[str, str],
    *arguments: str,
) -> None:
    """Executes `text`, the block as its reader has it, and compares its output with `shown`.

    A bash block goes to the terminal. A Python block is run with the arguments; if it has no end,
    until it has printed as many lines as are shown. Raises AssertionError for another output.
    """
    if block.language == "bash":
        output = await terminal.paste(text)
    else:
        enough = lines(shown.count("\n")) if shown and subscribes(block) else None
        output = await run_program(folder, environment, text, *arguments, enough=enough)
    assert shown is None or pattern(output) == pattern(shown), f"{block.place} shows another output"


def lines(count: int) -> Callable[[list[str]], bool]:
    """Returns a test for so many lines."""
    return lambda printed: len(printed) == count


def subscribes(block: Block) -> bool:
    """Returns whether the block is a program that prints events and has no end."""
    return "while True" in block.text
