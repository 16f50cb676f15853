"""Every block of docs/tutorial.md, pasted unchanged into a terminal with the addresses set, and
every output of the page compared.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

import pytest

from devstack.stack import Stack
from tests.system.counter import open_counter
from tests.system.readme import (
    HAS_GRPCURL,
    TUTORIAL,
    Block,
    Terminal,
    blocks,
    execute,
    run_program,
    subscribes,
    with_outputs,
)


def needs(tool: str, block: Block) -> bool:
    """Returns whether a reader with this tool pastes the block: the page defines `call` twice."""
    others = {"grpcurl": "buf curl", "buf curl": "grpcurl"}
    return not (block.text.startswith("call() ") and others[tool] in block.text)


@pytest.mark.skipif(
    not HAS_GRPCURL, reason="the pip package of grpcurl has a binary for Linux on x86-64 alone"
)
async def test_tutorial_with_grpcurl_prints_the_shown_outputs(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    """The page works from top to bottom with grpcurl, on changed ports."""
    since = datetime.now(UTC).isoformat()
    executed = 0
    async with Terminal(tmp_path, environment) as terminal:
        for block, shown in with_outputs(blocks(TUTORIAL)):
            if needs("grpcurl", block):
                arguments = [since] if subscribes(block) else []
                text = block.text
                await execute(block, text, shown, terminal, tmp_path, environment, *arguments)
                executed += 1
    assert executed >= 12


async def test_tutorial_with_buf_curl_closes_the_return(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    """Without grpcurl, the page works up to its audit with the `buf curl` of .venv."""
    pasted = []
    async with Terminal(tmp_path, environment) as terminal:
        by_hand = takewhile(lambda each: each[0].language == "bash", with_outputs(blocks(TUTORIAL)))
        for block, shown in by_hand:
            if "grpcurl" not in block.text:
                await execute(block, block.text, shown, terminal, tmp_path, environment)
                pasted.append(block.text)
    assert sum("--list-services" in text for text in pasted) == 1
    assert sum("--until delivered" in text and "GetOrder" in text for text in pasted) == 1
    assert sum("RETURN_STATUS_CLOSED" in text for text in pasted) == 1
    assert sum("omctl audit" in text for text in pasted) == 1


async def test_tutorial_subscriber_continues_where_it_stopped(
    stack: Stack, environment: Mapping[str, str], tmp_path: Path
) -> None:
    """The subscriber prints the events from a time on, and no older one. Killed and restarted
    without a time, it prints the later events without a repeat.
    """
    [page] = [
        block.text for block in blocks(TUTORIAL) if block.language == "python" and subscribes(block)
    ]
    async with open_counter(stack) as counter:

        async def placed(count: int) -> list[str]:
            return [
                (await counter.order(await counter.place(1))).order_number for _ in range(count)
            ]

        began, older = datetime.now(UTC), await placed(1)
        await run_program(tmp_path, environment, page, began.isoformat(), enough=printed(older))
        since, before = datetime.now(UTC), await placed(3)
        first = await run_program(
            tmp_path, environment, page, since.isoformat(), enough=printed(before)
        )
        assert all(number in first for number in before)
        assert older[0] not in first
        after = await placed(2)
        second = await run_program(tmp_path, environment, page, enough=printed(after))
    assert all(number in second for number in after)
    # The first process may have died before it acknowledged the last event.
    assert not any(number in second for number in before if number not in first.splitlines()[-1])


def printed(numbers: Sequence[str]) -> Callable[[list[str]], bool]:
    """Returns a test for all of these order numbers, in any order."""
    return lambda so_far: all(any(number in line for line in so_far) for number in numbers)
