"""The pages (README.md, docs/ and others) describe the code as it stands: drawings are fresh, links
have targets, README.md and decisions are short.
"""

import ast
import re
from pathlib import Path

import pytest

from chassis.values.event_subjects import STREAMS, subject_of
from devstack.postgres import UNSAFE_ON_POWER_LOSS
from devstack.settings import NATS_PORT, SERVICE_PORTS
from payment_svc.lifecycle import Kind
from shipping_svc.providers import sandbox
from tests.chaos.run import ENVIRONMENT
from tests.unit.test_layers import CHASSIS
from tools import pictures

ROOT = pictures.ROOT
LINK = re.compile(r"\[[^\]]+\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
DECISION_LINES_MAX = 25
README_LINES_MAX = 200
COLUMNS_MAX = 100
# Pages whose own text has no longer line. Outputs of programs and drawn tables may have some.
NARROW = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/tutorial.md", "docs/sandbox.md")
OUTPUT = re.compile(r"^```text\n.*?^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "page", pictures.pages(), ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_drawings_are_fresh(page: Path) -> None:
    """Pictures and tables between marks are what `make pictures` would draw now."""
    text = page.read_text()
    assert pictures.drawn(text) == text, "run `make pictures` and commit what it changes"


def test_every_drawing_is_shown_and_every_mark_is_whole() -> None:
    """Each drawing that can be made stands on a page, and no mark has lost its end: neither
    would be noticed by the test above.
    """
    texts = [page.read_text() for page in pictures.pages()]
    assert {mark["name"] for text in texts for mark in pictures.MARK.finditer(text)} == set(
        pictures.DRAWINGS
    )
    for text in texts:
        assert (
            text.count("<!-- drawn:")
            == text.count("<!-- end -->")
            == len(pictures.MARK.findall(text))
        )


def test_a_stale_drawing_is_noticed() -> None:
    """What somebody wrote into a drawing, or a status that went, is drawn over."""
    stale = "before\n<!-- drawn: order-statuses -->\npending --> delivered\n<!-- end -->\nafter\n"
    fresh = pictures.drawn(stale)
    assert "pending --> delivered" not in fresh
    assert "    shipped --> delivered\n" in fresh
    assert fresh.startswith("before\n<!-- drawn: order-statuses -->\n```mermaid\n")
    assert fresh.endswith("```\n<!-- end -->\nafter\n")


def test_every_event_of_the_contracts_is_in_the_table() -> None:
    """The table reads the contracts' text; the messages that are marked as events are the same."""
    told = {event.message: event.subject for event in pictures.events()}
    heard = {
        kind.DESCRIPTOR.full_name: subject_of(kind)
        for service in pictures.SERVICES
        for kind in pictures.hears(service)
    }
    assert heard.items() <= told.items()
    texts = "".join(path.read_text() for path in (ROOT / "proto").rglob("*_events.proto"))
    assert len(told) == texts.count("option (ordermesh.options.v1.event)")
    assert {subject.partition(".")[0] + ".>" for subject in told.values()} == set(STREAMS.values())


@pytest.mark.parametrize(
    "page", pictures.pages(), ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link within the repository names a file that is there, and a heading that it has."""
    for file, heading in LINK.findall(page.read_text()):
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{file} is not there"
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert heading in {
                re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings
            }, f"{file} has no #{heading}"


@pytest.mark.parametrize(
    "folder", [".", *(name for name in CHASSIS if (ROOT / "chassis" / name).is_dir())]
)
def test_map_of_the_chassis_is_whole(folder: str) -> None:
    """Each module and folder stands in the docstring of its folder, once, and no other."""
    here = ROOT / "chassis" / folder
    names = [
        f"{p.name}/" if p.is_dir() else p.name
        for p in here.iterdir()
        if not p.name.startswith("__")
    ]
    text = ast.get_docstring(ast.parse((here / "__init__.py").read_text()))
    assert sorted(re.findall(r"^([a-z_]+(?:\.py|/)) ", str(text), re.MULTILINE)) == sorted(names)


def test_every_crash_point_is_told() -> None:
    """docs/architecture.md lists the points at which a process can be killed, and no others."""
    code = "".join(
        path.read_text()
        for house in ("chassis", *(f"{s}_svc" for s in pictures.SERVICES))
        for path in (ROOT / house).rglob("*.py")
    )
    named = set(re.findall(r'crash_points\.point\(f?"([^"]+)"\)', code))
    assert "{operation.kind}.requested" in named
    asked = {f"{kind}.requested" for kind in (Kind.CAPTURE, Kind.VOID, Kind.REFUND)}
    table = (
        (ROOT / "docs/architecture.md").read_text().partition("| point |")[2].partition("\n\n")[0]
    )
    told = re.findall(r"`([a-z]+\.[a-z]+)`", table)
    assert sorted(told) == sorted(named - {"{operation.kind}.requested"} | asked)


def test_all_that_differs_under_faults_is_told() -> None:
    """docs/faults.md lists the settings of a run, each with its value."""
    text = (ROOT / "docs/faults.md").read_text()
    assert dict(re.findall(r"^\| `([A-Z_]+)` \| ([0-9.]+) \|", text, re.MULTILINE)) == ENVIRONMENT
    assert all(f"`{name}`" in text for name in UNSAFE_ON_POWER_LOSS)


def test_decisions_are_short_and_numbered() -> None:
    """A decision is read in a minute, and the numbers have no gap."""
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    for number, path in enumerate(decisions, 1):
        text = path.read_text()
        assert text.startswith(f"# {number}. "), path.name
        assert len(text.splitlines()) < DECISION_LINES_MAX, path.name


def test_readme_is_short() -> None:
    """README.md is read in a few minutes; other pages have the rest."""
    assert len((ROOT / "README.md").read_text().splitlines()) < README_LINES_MAX


@pytest.mark.parametrize("name", NARROW)
def test_lines_are_narrow(name: str) -> None:
    """No line of the page has more than 100 columns, outputs and drawings apart."""
    text = OUTPUT.sub("", pictures.MARK.sub("", (ROOT / name).read_text()))
    assert [line for line in text.splitlines() if len(line) > COLUMNS_MAX] == []


def test_tutorial_defaults_are_the_ports_of_make_run() -> None:
    """The first block of the tutorial has the address of each service and of NATS as the default,
    and no other line has an address: the page runs on moved ports as it stands.
    """
    text = (ROOT / "docs/tutorial.md").read_text()
    addresses = dict(re.findall(r'^export (\w+)="\$\{\1:-(\S+)\}"$', text, re.MULTILINE))
    assert addresses == {
        **{f"{name.upper()}_ADDRESS": f"127.0.0.1:{port}" for name, port in SERVICE_PORTS.items()},
        "NATS_URL": f"nats://127.0.0.1:{NATS_PORT}",
    }
    assert text.count("127.0.0.1") == len(addresses)


def test_addresses_of_the_sandbox_carrier_are_listed() -> None:
    """docs/sandbox.md lists each postal code to which the sandbox carrier reacts."""
    code = Path(sandbox.__file__).read_text()
    page = (ROOT / "docs/sandbox.md").read_text()
    codes = r"SANDBOX-[A-Z]+(?:-[A-Z]+)*"
    assert set(re.findall(codes, page)) == set(re.findall(f'"({codes})"', code))
