"""A page as its reader has it: its blocks, a terminal to paste them into, and what two outputs
have in common. No tests here.
"""

import asyncio
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.settings import METRICS_PORTS, NATS_PORT, SERVICE_PORTS
from devstack.stack import Stack

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "README.md"
BLOCK = re.compile(r"^```([^`\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
BLOCK_TIMEOUT_S = 120.0
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


def blocks(page: Path = PAGE) -> list[Block]:
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


def moved(text: str, stack: Stack) -> str:
    """The text with the addresses of `make run` replaced by those of the stack."""
    ports = {str(SERVICE_PORTS[name]): address for name, address in stack.addresses.items()}
    ports |= {
        str(METRICS_PORTS[name]): address for name, address in stack.metrics_addresses.items()
    }
    text = text.replace(f"nats://127.0.0.1:{NATS_PORT}", stack.nats_url)
    return re.sub(r"\b15\d{3}\b", lambda port: ports[port[0]].rpartition(":")[2], text)


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
