"""The simulator's programs: a demo, a replay of a file, and a load, against the five services."""

import asyncio
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from devstack.ports import free_ports
from devstack.stack import Stack
from tests.system.walk import LIFE

RUN_TIMEOUT_S = 240.0
# Two warehouses, a SKU twice, postage, a discount; a free row and one without a customer; unusable
# rows. Credits: some units of a discounted order; all goods of another in two notes, without
# postage; and units that no customer bought.
INVOICES = """\
InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
{0}1,85123A,WHITE HANGING HEART,6,01-12-10 8:26,2.55,17850,United Kingdom
{0}1,71053,WHITE METAL LANTERN,6,01-12-10 8:26,3.39,17850,United Kingdom
{0}1,85123A,WHITE HANGING HEART,2,01-12-10 8:26,2.10,17850,United Kingdom
{0}1,D,Discount,-1,01-12-10 8:26,1.01,17850,United Kingdom
{0}2,10002,INFLATABLE POLITICAL GLOBE,48,01-12-10 8:45,0.85,12583,France
{0}2,POST,POSTAGE,3,01-12-10 8:45,18,12583,France
C{0}3,35004C,FLYING DUCKS,-1,01-12-10 9:49,4.65,15311,United Kingdom
C{0}5,71053,WHITE METAL LANTERN,-2,01-12-10 9:50,3.39,17850,United Kingdom
C{0}5,85123A,WHITE HANGING HEART,-1,01-12-10 9:50,2.10,17850,United Kingdom
C{0}6,10002,INFLATABLE POLITICAL GLOBE,-40,01-12-10 9:50,0.85,12583,France
C{0}7,10002,INFLATABLE POLITICAL GLOBE,-8,01-12-10 9:51,0.85,12583,France
{0}4,22139,,56,01-12-10 11:52,0,,United Kingdom
{0}4,22140,damaged,-5,01-12-10 11:52,0,,United Kingdom
"""
REFUNDED = "49.44"  # by the frozen shares: 2 × 3.30 and 2.04 with the discount, and 40.80
TOTAL = "133.63"  # 39.84 - 1.01, and 40.80 + 54.00 of postage; the third is free


@dataclass(frozen=True, slots=True)
class Finished:
    """The exit code and the output of a program."""

    code: int
    out: str
    err: str


@pytest.fixture
def environment(stack: Stack) -> dict[str, str]:
    """The addresses of the services and the broker."""
    return stack.environment | {"NATS_URL": stack.nats_url, "PATH": ""}


async def run(environment: Mapping[str, str], *arguments: str | Path) -> Finished:
    """Runs `python -m` with these arguments to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(RUN_TIMEOUT_S):
        out, err = await process.communicate()
    return Finished(process.returncode or 0, out.decode(), err.decode())


async def orders_of(environment: Mapping[str, str], reference: str) -> list[dict[str, object]]:
    """Returns the orders that an invoice became."""
    finished = await run(
        environment, "omctl", "order", "list", "--json", "--external-reference", reference
    )
    return [json.loads(line) for line in finished.out.splitlines()]


# The end of a replay's report: each label with its counts.
SUMMARY = [
    "  orders   3 delivered",
    (
        "  rows     13 in the file: 7 in orders, 4 in returns, 2 left out; 1 no earlier invoice"
        " of its customer in the file has it; 1 a negative quantity outside a credit note"
    ),
    (
        "  units    118 in the file's orders (and 3 of postage, as shipping): 118 ordered, 118"
        " shipped"
    ),
    f"  money    {TOTAL} GBP in the file's orders: {TOTAL} GBP ordered, {TOTAL} GBP captured",
    "  returns  3 closed",
    "  units    51 in the file's credits: 51 returned, 51 restocked",
    (
        "  money    49.68 GBP in the file's credits (0.24 GBP of it was never paid, by"
        f" discounts): {REFUNDED} GBP refunded"
    ),
]


def check_first_lines(lines: Sequence[str]) -> None:
    """Checks the report of a replay before its summary: the invoices, and the rows that cannot be
    ordered.
    """
    assert (
        lines[0]
        == "3 invoices can be ordered (credits to be returned: 3); 2 of 13 rows cannot (listed at"
        " the end)"
    )
    assert sorted(line.split()[1] for line in lines[1:4]) == ["771", "772", "774"]
    assert lines[4:7] == [
        "Left out, row by row:",
        (
            "  line      8  C773       35004C            -1 x 4.65     no earlier invoice of its"
            " customer in the file has it"
        ),
        (
            "  line     14  774        22140             -5 x 0        a negative quantity outside"
            " a credit note"
        ),
    ]
    assert re.fullmatch(r"3 of 3 orders delivered in \d+\.\d s", lines[7])


async def test_second_replay_of_a_file_changes_nothing(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Every valid invoice is delivered, its credits are returned to the unit and the penny, and
    every other row is listed. A second replay orders, posts and refunds nothing again; under a
    label it does.
    """
    file = tmp_path / "invoices.csv"
    before = await on_the_shelf(environment, "85123A")
    file.write_text(INVOICES.format("77"))
    first = await run(environment, "simulator", "replay", file)
    assert first.code == 0, first.out + first.err
    check_first_lines(first.out.splitlines()[:8])
    assert first.out.splitlines()[8:] == SUMMARY
    [placed] = await orders_of(environment, "771")

    again = await run(environment, "simulator", "replay", file)
    assert again.code == 0, again.out + again.err
    assert again.out.splitlines()[-3:] == SUMMARY[-3:]
    assert again.out.splitlines()[-7:-6] == [
        "  again    3 of them were there from an earlier replay, and nothing was ordered twice"
        " (--again LABEL orders anew)"
    ]
    assert [order["orderId"] for order in await orders_of(environment, "771")] == [
        placed["orderId"]
    ]
    assert await on_the_shelf(environment, "85123A") == before + 1

    anew = await run(environment, "simulator", "replay", file, "--again", "second")
    assert anew.code == 0, anew.out + anew.err
    assert anew.out.splitlines()[-7:] == SUMMARY
    assert len(await orders_of(environment, "771")) == 2


@pytest.mark.parametrize(
    ("row", "rows"),
    [
        ("", "0 in the file: 0 in orders, 0 left out"),
        (
            "775,BANK CHARGES,,1,01-12-10 8:26,5,,UK",
            "1 in the file: 0 in orders, 1 left out; 1 a fee of the shop's own, not goods",
        ),
    ],
)
async def test_file_without_orders_ends(
    environment: dict[str, str], tmp_path: Path, row: str, rows: str
) -> None:
    """A file with a header alone, or without a valid row: each row is listed, and the replay
    ends.
    """
    file = tmp_path / "invoices.csv"
    file.write_text(INVOICES.partition("\n")[0] + "\n" + row)
    finished = await run(environment, "simulator", "replay", file)
    assert (finished.code, finished.err) == (0, "")
    assert f"  rows     {rows}" in finished.out.splitlines()


async def on_the_shelf(environment: Mapping[str, str], sku: str) -> int:
    """Returns the units available in all warehouses. Checks that none is reserved, committed or
    damaged.
    """
    stock = await run(environment, "omctl", "stock", "list", "--json", "--sku", sku)
    levels = [json.loads(line) for line in stock.out.splitlines()]
    assert {level[name] for level in levels for name in ("reserved", "committed", "damaged")} <= {
        "0"
    }
    return sum(int(level["available"]) for level in levels)


async def test_lost_events_strand_no_order(environment: dict[str, str], tmp_path: Path) -> None:
    """Without events, every order is delivered: the simulator polls."""
    file = tmp_path / "invoices.csv"
    file.write_text(INVOICES.format("78"))
    deaf = environment | {"NATS_URL": f"nats://127.0.0.1:{next(iter(free_ports(1)))}"}
    finished = await run(deaf, "simulator", "replay", file)
    assert finished.code == 0, finished.out + finished.err
    assert finished.out.startswith("No broker answers (NATS_URL)")


async def test_demo_shows_each_status_once(environment: dict[str, str]) -> None:
    """One order walks to delivered, its timeline is printed live, and its parcels are named."""
    finished = await run(environment, "simulator", "demo")
    assert finished.code == 0, finished.out + finished.err
    steps = re.findall(r"^\d\d:\d\d:\d\d\.\d{3}  (\w+) +([A-Z_]+)$", finished.out, re.MULTILINE)
    assert [status.upper() for status, _ in steps] == LIFE
    assert [reason for _, reason in steps[:2]] == ["ORDER_PLACED", "PAYMENT_CONFIRMED"]
    assert re.findall(
        r"^parcel from (\S+): tracking number SBX\d+$", finished.out, re.MULTILINE
    ) == [
        "leeds-1",
        "london-1",
    ]
    assert re.search(r"^Delivered \d+\.\d s after checkout\.$", finished.out, re.MULTILINE)


async def test_load_is_delivered_and_measured(environment: dict[str, str]) -> None:
    """Orders at a steady rate are all delivered, and their times are reported."""
    finished = await run(environment, "simulator", "load", "--rate", "3", "--duration", "2")
    assert finished.code == 0, finished.out + finished.err
    assert re.search(
        r"^6 orders sent in \d+\.\d s \(\d+\.\d a second\): 6 delivered$",
        finished.out,
        re.MULTILINE,
    )
    for measure in ("create", "checkout to confirmed", "order to delivered"):
        assert re.search(rf"^{measure}( +\d+\.\d{{3}}){{3}}$", finished.out, re.MULTILINE)


async def test_file_without_invoices_is_a_usage_error(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """A file without invoices is a usage error, before any order."""
    (tmp_path / "notes.txt").write_text("milk\n")
    finished = await run(environment, "simulator", "replay", tmp_path / "notes.txt")
    assert finished.code == 2
    assert finished.err.startswith(
        "These are not invoices: the first line, split at commas, names no column InvoiceNo"
    )
