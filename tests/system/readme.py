"""A page as its reader has it: its blocks, a terminal to paste them into, a run of its programs,
and what two outputs have in common. No tests here.
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
# The ports of `make run`, by the variable that moves each.
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
# The binary of requirements-test.txt is for these; elsewhere everything is walked with buf curl
# alone.
HAS_GRPCURL = platform.system() == "Linux" and platform.machine() == "x86_64"
# What is another one each time, in the order in which it is replaced.
VARIABLE = (
    (r"\b\w+_(ADDRESS|URL)=\S+ ", ""),  # `make run` says these where its ports are moved
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>"),
    (r"\bOM(-[0-9A-Z]{5}){3}\b", "<order number>"),
    (r"\bSBX\d{16}\b", "<tracking number>"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)|\b\d\d:\d\d:\d\d\.\d+", "<time>"),
    # Of two events that tell of the same, whichever comes first.
    (r"\b(FULFILLMENT_[A-Z]+|SHIPMENT_CREATED)\b( +\(by \w+)?", "<news>"),
    (r"\d+(\.\d+)?", "<number>"),
    (r"[ \t]+", " "),
    (r" $", ""),
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language (empty: none), its text, the section that it stands in, and
    the place: file and line.
    """

    language: str
    text: str
    section: str
    place: str


def blocks(page: Path) -> list[Block]:
    """The blocks of the page, in their order."""
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
    """What is to be executed, each with the output that the page shows of it: the text block
    that follows.
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
    """What an output has in common with another of the same command: without ids, times, numbers
    and the width of columns.
    """
    for what, instead in VARIABLE:
        output = re.sub(what, instead, output, flags=re.MULTILINE)
    return output.strip()


class Terminal:
    """A bash that blocks are pasted into, one after the other: variables and functions of one
    are there in the next.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """`folder` takes what the terminal needs to remember; commands run in the project's
        root.
        """
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
        self._tell("set -euo pipefail")  # nobody looks at what fails here, as the reader would
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
        """Runs the text, and returns what it prints to stdout. Raises AssertionError where a
        command of it fails.
        """
        end = "the block has ended"
        (self._folder / "block").write_text(text)
        self._tell(f"source {self._folder}/block < /dev/null; echo; echo '{end}'")
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

    def _tell(self, command: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{command}\n".encode())


async def run_program(
    folder: Path,
    environment: Mapping[str, str],
    text: str,
    *arguments: str,
    enough: Callable[[list[str]], bool] | None = None,
) -> str:
    """Returns what the Python program prints: to its end, or until the lines are `enough`.

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
