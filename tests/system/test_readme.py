"""Every command block of README.md, executed as its reader would; and every output that it shows,
compared with what comes.

`make test` stands in the README too, and is not executed: this is part of it. `make run` has a test
of its own, on other ports.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from devstack.child import Child
from devstack.ports import free_ports
from devstack.settings import SERVICE_PORTS
from devstack.stack import Stack
from tests.support import Eventually, reachable_folder
from tests.system.counter import open_counter
from tests.system.readme import (
    HAS_GRPCURL,
    PAGE,
    ROOT,
    Block,
    Terminal,
    blocks,
    moved,
    pattern,
    with_outputs,
)
from tools import pictures

BY_HAND = "Walk an order by hand"
PYTHON_TIMEOUT_S = 60.0
MAKE_RUN = ("-m", "devstack")
LIST = (sys.executable, "-m", "omctl", "order", "list", "--json")
NOT_EXECUTED = {"docs/faults.md"}  # it calls `make chaos`, which takes minutes
UP = "Ctrl-C stops everything."


@pytest.fixture(scope="session")
def environment(stack: Stack) -> Mapping[str, str]:
    """What a terminal beside `make run` knows; and grpcurl is where the README's `make
    build/grpcurl` puts it.
    """
    # Of an outer `make test` nothing goes down to the make that is called here.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    if HAS_GRPCURL:
        subprocess.run(["make", "--silent", "build/grpcurl"], cwd=ROOT, env=environment, check=True)
    return environment | stack.environment


def needs(tool: str, block: Block) -> bool:
    """Whether a block is for the reader who uses this tool: of the two ways to write `call`, it
    takes one.
    """
    others = {"grpcurl": "buf curl", "buf curl": "grpcurl"}
    return not (block.text.startswith("call() ") and others[tool] in block.text)


def runs(block: Block) -> bool:
    """Whether it is the block of `make run` and `make test`: see above."""
    return block.text.startswith("make run ")


@pytest.mark.skipif(
    not HAS_GRPCURL, reason="the pip package of grpcurl has a binary for Linux on x86-64 alone"
)
async def test_every_block_works_as_it_is_pasted(
    stack: Stack, environment: Mapping[str, str], tmp_path: Path
) -> None:
    """Who pastes the page from top to bottom, with grpcurl, walks an order to delivered, and
    sees what the page shows.
    """
    since = datetime.now(UTC)
    executed = 0
    async with Terminal(tmp_path, environment) as terminal:
        for block, shown in with_outputs(blocks()):
            if runs(block) or not needs("grpcurl", block):
                continue
            text = moved(block.text, stack)
            if block.language == "bash":
                output = await terminal.paste(text)
            else:
                enough = lines(shown.count("\n")) if shown and subscribes(block) else None
                output = await python(tmp_path, environment, text, since.isoformat(), enough=enough)
            executed += 1
            assert shown is None or pattern(output) == pattern(shown), (
                f"{block.place} shows something else"
            )
    assert executed >= 12


async def test_an_order_is_walked_by_hand_with_buf_curl_alone(
    stack: Stack, environment: Mapping[str, str], tmp_path: Path
) -> None:
    """Who has no grpcurl gets as far with the `buf curl` of .venv: the services are listed, an
    order is delivered.
    """
    pasted = []
    async with Terminal(tmp_path, environment) as terminal:
        for block, shown in with_outputs(blocks()):
            if block.section == BY_HAND and "grpcurl" not in block.text:
                output = await terminal.paste(moved(block.text, stack))
                assert shown is None or pattern(output) == pattern(shown), (
                    f"{block.place} shows something else"
                )
                pasted.append(block.text)
    assert sum("--list-services" in text for text in pasted) == 1
    assert sum("--until delivered" in text and "GetOrder" in text for text in pasted) == 1


async def test_the_commands_of_the_docs_work_too(
    stack: Stack, environment: Mapping[str, str], tmp_path: Path
) -> None:
    """What docs/ gives to be pasted can be pasted, in any order: a page is not read from top to
    bottom.
    """
    commands = [
        block
        for page in pictures.pages()
        if page != PAGE
        for block in blocks(page)
        if block.language == "bash"
    ]
    assert commands
    for block in commands:
        async with Terminal(tmp_path, environment) as terminal:
            assert await terminal.paste(moved(block.text, stack)), f"{block.place} says nothing"


async def test_the_page_that_subscribes_goes_on_where_it_stopped(
    stack: Stack, environment: Mapping[str, str], tmp_path: Path
) -> None:
    """From a time it prints what came then or later, and nothing older. Killed and started again
    without one, it prints what came since, and nothing that it had before.
    """
    [page] = [
        moved(block.text, stack)
        for block in blocks()
        if block.language == "python" and subscribes(block)
    ]
    async with open_counter(stack) as counter:

        async def placed(count: int) -> list[str]:
            return [
                (await counter.order(await counter.place(1))).order_number for _ in range(count)
            ]

        began, older = datetime.now(UTC), await placed(1)
        await python(tmp_path, environment, page, began.isoformat(), enough=printed(older))
        since, before = datetime.now(UTC), await placed(3)
        first = await python(tmp_path, environment, page, since.isoformat(), enough=printed(before))
        assert all(number in first for number in before)
        assert older[0] not in first
        after = await placed(2)
        second = await python(tmp_path, environment, page, enough=printed(after))
    assert all(number in second for number in after)
    # The acknowledgement of what it printed last may have died with the first process.
    assert not any(number in second for number in before if number not in first.splitlines()[-1])


def printed(numbers: Sequence[str]) -> Callable[[list[str]], bool]:
    """All of these have been printed, in any order: that of different orders nobody promises."""
    return lambda so_far: all(any(number in line for line in so_far) for number in numbers)


def lines(count: int) -> Callable[[list[str]], bool]:
    """So many are enough."""
    return lambda printed: len(printed) == count


def subscribes(block: Block) -> bool:
    """Whether it is the page that prints events, and has no end."""
    return "while True" in block.text


async def python(
    folder: Path,
    environment: Mapping[str, str],
    text: str,
    *arguments: str,
    enough: Callable[[list[str]], bool] | None = None,
) -> str:
    """What the program prints, with these arguments: to its end, or, where it has none, until
    that is `enough`.
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
        async with asyncio.timeout(PYTHON_TIMEOUT_S):
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


async def test_make_run_shows_what_the_page_shows(
    environment: Mapping[str, str], eventually: Eventually
) -> None:
    """`make run`, on a fresh folder and other ports: it comes up, walks an order to delivered, and
    ends with Ctrl-C; all as shown.

    The next day the order is still there.
    """
    names = [
        f"{name}{kind}_PORT".upper() for name in SERVICE_PORTS for kind in ("", "_metrics")
    ] + ["POSTGRES_PORT", "NATS_PORT"]
    chosen = {name: str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
    # grpcurl is there: the fixture has made it.
    path = {"PATH": f"{ROOT / 'build'}:{environment['PATH']}"}
    environment = (
        {
            name: value
            for name, value in os.environ.items()
            if name not in ("DATABASE_URL", "NATS_URL")
        }
        | chosen
        | path
    )
    shown = next(block.text for block in blocks() if block.language == "text" and UP in block.text)
    with reachable_folder("ordermesh-readme-") as folder:
        data = folder / "data"
        code, output = await ran(("--folder", data), environment, folder / "first.log", eventually)
        order = re.search(r"\bOM(-[0-9A-Z]{5}){3}\b", output)
        assert order, output
        address = f"127.0.0.1:{chosen['ORDER_PORT']}"
        ready_to_paste = [
            line.strip() for line in output.partition("Try:\n")[2].partition("\n\n")[0].splitlines()
        ]
        assert len(ready_to_paste) == 4

        async def look() -> None:
            told = await asyncio.to_thread(
                subprocess.run,
                LIST,
                env=environment | {"ORDER_ADDRESS": address},
                capture_output=True,
                cwd=ROOT,
            )
            assert order[0].encode() in told.stdout, told
            assert b"ORDER_STATUS_DELIVERED" in told.stdout
            for line in ready_to_paste:
                if HAS_GRPCURL or not line.startswith("grpcurl"):
                    pasted = await asyncio.to_thread(
                        subprocess.run,
                        ["bash", "-c", line],
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        capture_output=True,
                        cwd=ROOT,
                    )
                    assert pasted.returncode == 0, (line, pasted)

        later, _ = await ran(
            ("--no-demo", "--folder", data), environment, folder / "second.log", eventually, look
        )
    assert (code, later) == (0, 0), output
    assert " delivered " in output
    at_home = output.replace(str(data), ".ordermesh").replace(sys.prefix, ".venv")
    assert pattern(at_home.partition("Stopping")[0]) == pattern(shown)


async def nothing() -> None:
    """Nothing is done while it is up."""


async def ran(
    arguments: Sequence[str | Path],
    environment: Mapping[str, str],
    log: Path,
    eventually: Eventually,
    meanwhile: Callable[[], Awaitable[None]] = nothing,
) -> tuple[int, str]:
    """How `make run` ended, by Ctrl-C once it was up and `meanwhile` was done, and what it
    printed.
    """
    child = Child(
        [sys.executable, *MAKE_RUN, *arguments], log=log, environment=environment, folder=ROOT
    )
    try:
        await eventually(
            lambda: UP in child.output() or not child.running, timeout_s=300, what="make run is up"
        )
        await meanwhile()
        child.send(signal.SIGINT)
        await eventually(lambda: not child.running, timeout_s=60, what="make run ends")
    finally:
        code, output = child.stop(signal.SIGINT, grace_s=30), child.output()
    return code, output


def test_make_run_is_what_is_tested() -> None:
    """The page's two commands do what the tests here take them for."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    for target, module in (("run", MAKE_RUN), ("test", ("-m", "pytest"))):
        planned = subprocess.run(
            ["make", "-n", target],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert planned.splitlines()[-1].split()[:3] == [".venv/bin/python", *module]


def test_every_block_is_executed_or_known() -> None:
    """No block is left out by accident: each is bash, Python, an output or a picture; in docs/,
    bash, a text or a picture.
    """
    docs = {
        (block.language, block.place.partition(":")[0])
        for page in pictures.pages()
        if page != PAGE
        for block in blocks(page)
    }
    assert {
        page for language, page in docs if language not in ("bash", "mermaid", "text")
    } == NOT_EXECUTED
    assert {block.language for block in blocks()} == {"bash", "python", "text", "mermaid"}
    assert [block.text.split()[:2] for block in blocks() if runs(block)] == [["make", "run"]]


async def test_the_metrics_are_those_of_the_table(stack: Stack) -> None:
    """docs/operations.md names every metric that the five services show, and none that they do
    not.
    """
    shown: set[str] = set()
    for address in stack.metrics_addresses.values():
        with await asyncio.to_thread(
            urllib.request.urlopen, f"http://{address}/metrics", timeout=10
        ) as page:
            shown |= set(re.findall(r"^# TYPE (\S+) ", page.read().decode(), re.MULTILINE))
    ours = {
        name
        for name in shown
        if not name.startswith(("process_", "python_")) and not name.endswith("_created")
    }
    assert ours == {metric.name for metric in pictures.metrics()}
