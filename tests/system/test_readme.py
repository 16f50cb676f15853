"""Every block of README.md, executed as by a reader, beside `make run` on other ports, and every
output of the page compared. Then the commands of the other pages.

The block of `make test` is not executed: these tests are part of it.
"""

import asyncio
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from devstack.child import Child
from devstack.ports import free_ports
from devstack.settings import SERVICE_PORTS
from devstack.stack import Stack
from tests.support import Eventually, reachable_folder
from tests.system.readme import (
    HAS_GRPCURL,
    PORTS,
    README,
    ROOT,
    TUTORIAL,
    Block,
    Terminal,
    blocks,
    execute,
    moved,
    pattern,
    with_outputs,
)
from tools import pictures
from tools.metrics import metrics

MAKE_RUN = ("-m", "devstack")
LIST = (sys.executable, "-m", "omctl", "order", "list", "--json")
NOT_EXECUTED = {"docs/faults.md"}  # it calls `make chaos`, which takes minutes
UP = "Ctrl-C stops everything."


def other_pages() -> list[Path]:
    """Returns the pages whose blocks are independent."""
    return [page for page in pictures.pages() if page not in (README, TUTORIAL)]


def runs(block: Block) -> bool:
    """Returns whether it is the block of `make run` and `make test`."""
    return block.text.startswith("make run ")


async def test_commands_of_the_other_pages_work(
    stack: Stack, environment: Mapping[str, str], tmp_path: Path
) -> None:
    """Each command of the other pages can be pasted, in any order."""
    ports = {
        SERVICE_PORTS[name]: int(address.rpartition(":")[2])
        for name, address in stack.addresses.items()
    }
    commands = [
        block for page in other_pages() for block in blocks(page) if block.language == "bash"
    ]
    assert commands
    for block in commands:
        async with Terminal(tmp_path, environment) as terminal:
            assert await terminal.paste(moved(block.text, ports)), f"{block.place} prints nothing"


def on_other_ports(environment: Mapping[str, str], chosen: dict[str, str]) -> dict[str, str]:
    """Returns the variables of a terminal that reaches only a stack on the chosen ports."""
    unset = ("DATABASE_URL", "NATS_URL", *(f"{name.upper()}_ADDRESS" for name in SERVICE_PORTS))
    others = {name: value for name, value in environment.items() if name not in unset}
    return others | chosen | {"PATH": f"{ROOT / 'build'}:{environment['PATH']}"}


async def execute_readme(
    environment: Mapping[str, str], ports: Mapping[int, int], folder: Path
) -> None:
    """Executes the blocks of README.md from top to bottom, except `make run` and `make test`, and
    checks their outputs.
    """
    executed = 0
    async with Terminal(folder, environment) as terminal:
        for block, output in with_outputs(blocks(README)):
            if not runs(block):
                text = moved(block.text, ports)
                await execute(block, text, output, terminal, folder, environment)
                executed += 1
    assert executed == 3


async def check_second_start(
    environment: Mapping[str, str], address: str, order: str, ready_to_paste: Sequence[str]
) -> None:
    """Checks that the order service at the address has the delivered order, and executes the
    printed commands.
    """
    listed = await asyncio.to_thread(
        subprocess.run,
        LIST,
        env={**environment, "ORDER_ADDRESS": address},
        capture_output=True,
        cwd=ROOT,
    )
    assert order.encode() in listed.stdout, listed
    assert b"ORDER_STATUS_DELIVERED" in listed.stdout
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


async def test_make_run_and_readme_print_the_shown_outputs(
    environment: Mapping[str, str], tmp_path: Path, eventually: Eventually
) -> None:
    """`make run`, on a new folder and other ports, prints the output of README.md. The blocks of
    the page work beside it, from top to bottom. It ends with Ctrl-C.

    At the next start the order still exists, and the printed commands can be pasted.
    """
    chosen = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    ports = {default: int(chosen[name]) for name, default in PORTS.items()}
    environment = on_other_ports(environment, chosen)
    shown = next(block.text for block in blocks(README) if "ordermesh is up" in block.text)

    with reachable_folder("ordermesh-readme-") as folder:
        data = folder / "data"
        code, output = await ran(
            ("--folder", data),
            environment,
            folder / "first.log",
            eventually,
            partial(execute_readme, environment, ports, tmp_path) if HAS_GRPCURL else nothing,
        )
        order = re.search(r"\bOM(-[0-9A-Z]{5}){3}\b", output)
        assert order, output
        address = f"127.0.0.1:{chosen['ORDER_PORT']}"
        printed, _, rest = output.partition("\nTry:\n")
        ready_to_paste = [line.strip() for line in rest.partition("\n\n")[0].splitlines()]
        assert len(ready_to_paste) == 4
        later, _ = await ran(
            ("--no-demo", "--folder", data),
            environment,
            folder / "second.log",
            eventually,
            partial(check_second_start, environment, address, order[0], ready_to_paste),
        )
    assert (code, later) == (0, 0), output
    assert " delivered " in printed
    at_home = printed.replace(str(data), ".ordermesh").replace(sys.prefix, ".venv")
    assert pattern(at_home) == pattern(shown)


async def nothing() -> None:
    """Does nothing while the stack is up."""


async def ran(
    arguments: Sequence[str | Path],
    environment: Mapping[str, str],
    log: Path,
    eventually: Eventually,
    meanwhile: Callable[[], Awaitable[None]] = nothing,
) -> tuple[int, str]:
    """Returns how `make run` ended, by Ctrl-C once it was up and `meanwhile` was done, and its
    output.
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


def test_make_starts_the_tested_programs(terminal_variables: Mapping[str, str]) -> None:
    """`make run` and `make test` start the programs that these tests start."""
    for target, module in (("run", MAKE_RUN), ("test", ("-m", "pytest"))):
        planned = subprocess.run(
            ["make", "-n", target],
            cwd=ROOT,
            env=terminal_variables,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert planned.splitlines()[-1].split()[:3] == [".venv/bin/python", *module]


def test_every_block_has_a_permitted_language() -> None:
    """Each block of README.md and the tutorial is bash, Python, an output or a picture; each of the
    other pages is bash, a text or a picture.
    """
    others = {
        (block.language, block.place.partition(":")[0])
        for page in other_pages()
        for block in blocks(page)
    }
    assert {
        page for language, page in others if language not in ("bash", "mermaid", "text")
    } == NOT_EXECUTED
    assert {block.language for block in blocks(README)} == {"bash", "python", "text", "mermaid"}
    assert {block.language for block in blocks(TUTORIAL)} == {"bash", "python", "text"}
    assert [block.text.split()[:2] for block in blocks(README) if runs(block)] == [["make", "run"]]


async def test_operations_page_lists_every_metric(stack: Stack) -> None:
    """docs/operations.md names exactly the metrics that the five services report."""
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
    assert ours == {metric.name for metric in metrics()}
