"""The pages (README.md, docs/ and others) describe the present code: drawings are fresh, links have
targets, README.md and decisions are short.
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
from tests.unit.layers import CHASSIS
from tools import pictures

ROOT = pictures.ROOT
LINK = re.compile(r"\[[^\]]+\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
DECISION_LINES_MAX = 25
README_LINES_MAX = 200


@pytest.mark.parametrize(
    "page", pictures.pages(), ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_drawings_are_fresh(page: Path) -> None:
    """Pictures and tables between marks equal the output of `make pictures`."""
    text = page.read_text()
    assert pictures.drawn(text) == text, "run `make pictures` and commit what it changes"


def test_every_drawing_is_on_a_page_between_two_marks() -> None:
    """Each drawing stands on a page, and each mark has its end. The test above finds neither
    fault.
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


def test_stale_drawing_is_drawn_again() -> None:
    """`make pictures` replaces text that was written into a drawing, and a status that no longer
    exists.
    """
    stale = "before\n<!-- drawn: order-statuses -->\npending --> delivered\n<!-- end -->\nafter\n"
    fresh = pictures.drawn(stale)
    assert "pending --> delivered" not in fresh
    assert "    shipped --> delivered\n" in fresh
    assert fresh.startswith("before\n<!-- drawn: order-statuses -->\n```mermaid\n")
    assert fresh.endswith("```\n<!-- end -->\nafter\n")


def test_every_event_of_the_contracts_is_in_the_table() -> None:
    """The table of events lists exactly the messages that the contracts mark as events."""
    published = {event.message: event.subject for event in pictures.events()}
    consumed = {
        kind.DESCRIPTOR.full_name: subject_of(kind)
        for service in pictures.SERVICES
        for kind in pictures.consumed_events(service)
    }
    assert consumed.items() <= published.items()
    texts = "".join(path.read_text() for path in (ROOT / "proto").rglob("*_events.proto"))
    assert len(published) == texts.count("option (ordermesh.options.v1.event)")
    assert {subject.partition(".")[0] + ".>" for subject in published.values()} == set(
        STREAMS.values()
    )


@pytest.mark.parametrize(
    "page", pictures.pages(), ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_links_have_existing_targets(page: Path) -> None:
    """Each link within the repository names an existing file, and a heading of that file."""
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
def test_map_of_the_chassis_lists_each_module_once(folder: str) -> None:
    """The docstring of a folder lists each of its modules and folders once, and no other."""
    here = ROOT / "chassis" / folder
    names = [
        f"{p.name}/" if p.is_dir() else p.name
        for p in here.iterdir()
        if not p.name.startswith("__")
    ]
    text = ast.get_docstring(ast.parse((here / "__init__.py").read_text()))
    assert sorted(re.findall(r"^([a-z_]+(?:\.py|/)) ", str(text), re.MULTILINE)) == sorted(names)


def test_every_crash_point_is_documented() -> None:
    """docs/architecture.md lists exactly the points at which a process can be killed."""
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
    documented = re.findall(r"`([a-z]+\.[a-z_]+)`", table)
    assert sorted(documented) == sorted(named - {"{operation.kind}.requested"} | asked)


def test_every_setting_of_a_chaos_run_is_documented() -> None:
    """docs/faults.md lists the settings of a run, each with its value."""
    text = (ROOT / "docs/faults.md").read_text()
    assert dict(re.findall(r"^\| `([A-Z_]+)` \| ([0-9.]+) \|", text, re.MULTILINE)) == ENVIRONMENT
    assert all(f"`{name}`" in text for name in UNSAFE_ON_POWER_LOSS)


def test_decisions_are_short_and_numbered() -> None:
    """A decision is short, and the numbers have no gap."""
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    for number, path in enumerate(decisions, 1):
        text = path.read_text()
        assert text.startswith(f"# {number}. "), path.name
        assert len(text.splitlines()) < DECISION_LINES_MAX, path.name


def test_readme_is_short() -> None:
    """README.md is short; other pages have the details."""
    assert len((ROOT / "README.md").read_text().splitlines()) < README_LINES_MAX


def test_tutorial_defaults_are_the_ports_of_make_run() -> None:
    """The first block of the tutorial has the address of each service and of NATS as the default.
    No other line has an address, so the page also runs on other ports.
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
