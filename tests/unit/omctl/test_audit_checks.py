"""The audit's checks: no finding where all is consistent, and a finding of each check where its
fact is broken."""

import importlib
import pkgutil
import shlex
from dataclasses import fields, replace
from typing import Any

import pytest
from ordermesh.ops.v1 import ops_service_pb2

import omctl.audit
from omctl.audit.audit import CHECKS, STUCK_AFTER, differences
from omctl.audit.difference import Check
from omctl.audit.facts import Facts
from tests.unit.omctl.audit_world import KINDS, World, at
from tests.unit.omctl.broken_facts import BROKEN, contradicted, cut_too_late, failed_event


def test_audit_of_consistent_records_finds_nothing() -> None:
    """A delivered order with a cancelled and a returned unit: the audit accounts for every unit and
    penny.
    """
    assert differences(World().facts()) == []


def test_contradiction_is_a_finding_until_it_is_resolved() -> None:
    """The finding names the operation, both outcomes, the report and its payload's hash; the repair
    shows more.
    """
    world = World()
    world.payment.processor = "sandbox"
    contradicted(world)
    [found] = [d for d in differences(world.facts()) if d.check == "payment.contradicted"]
    assert (
        found.text
        == "sandbox said that operation operation failed, and its report evt_1 (SHA-256 ab12) says"
        " that it succeeded"
    )
    assert found.repair == "omctl payment contradictions order"
    world.payment.operations[0].contradictions[0].resolve_time.CopyFrom(at(0))
    assert "payment.contradicted" not in {d.check for d in differences(world.facts())}


def test_unit_shipped_before_its_cut_misses_only_its_recall() -> None:
    """More units were shipped than the order has left: only the recall is missing, and the stock is
    consistent.
    """
    world = World()
    cut_too_late(world)
    checks = {each.check for each in differences(world.facts())}
    assert "return.recall" in checks
    assert "order.stock" not in checks


def test_deferred_event_is_no_difference() -> None:
    """The service retries a parked event: only a failed one is a difference."""
    world = World()
    failed_event(world)
    world.failed[0].state = ops_service_pb2.FAILED_EVENT_STATE_DEFERRED
    assert differences(world.facts()) == []


def test_restock_without_a_return_is_reported() -> None:
    """RestockItem with a source_id that names no return is reported with its order, place and
    units.
    """
    world = World()
    there = world.movements[-1]
    assert there.kind == KINDS.STOCK_MOVEMENT_KIND_RESTOCK
    there.source_id = "no return"
    [found] = [d for d in differences(world.facts()) if d.check == "return.unknown"]
    assert found.subject == f"order {there.order_id}"
    place = f"line {there.line_number}, {there.sku} in {there.warehouse_id}"
    assert (
        found.text
        == f"{place}: {there.quantity} units restocked for no return, which is not a return of"
        " this order"
    )


@pytest.mark.parametrize("check", BROKEN)
def test_each_check_reports_its_broken_fact(check: str) -> None:
    """One fact is broken: its check reports it by the ids, with a repair."""
    world = World()
    BROKEN[check](world)
    found = [each for each in differences(world.facts()) if each.check == check]
    assert found, differences(world.facts())
    assert all(each.subject and each.text and each.repair.startswith("omctl ") for each in found)


@pytest.mark.parametrize("name", ["CUP AND SAUCER", "x; false", "it's $(false)", "lamp"])
@pytest.mark.parametrize(
    "check", ["stock.ledger", "stock.conservation", "stock.negative", "stock.reservations"]
)
def test_repairs_with_free_text_names_can_be_pasted(check: str, name: str) -> None:
    """Warehouses and SKUs are free text: a shell reads each as one word and executes nothing in
    it.
    """
    world = World()
    BROKEN[check](world)
    there: list[Any] = [world.level, *world.movements]
    for each in (*there, world.order.items[0], world.reservation.lines[0]):
        each.sku = name
    for each in (*there, world.reservation, world.work, world.order.items[0].allocations[0]):
        each.warehouse_id = name
    repairs = {found.repair for found in differences(world.facts()) if found.check == check}
    assert [shlex.split(repair) for repair in repairs] == [
        ["omctl", "stock", "list", "--warehouse", name, "--sku", name]
    ]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: "-".join(sorted(check.rules)))
def test_check_reads_only_the_facts_it_needs(check: Check) -> None:
    """`needs` is complete: no check runs on facts that a service did not give."""
    others = {field.name for field in fields(Facts)} - check.needs - {"time"}
    # any use of it in a check fails
    not_given: dict[str, Any] = dict.fromkeys(others, object())
    for broken in BROKEN.values():
        world = World()
        broken(world)
        limited = replace(world.facts(), **not_given)
        assert {found.check for found in check.find(limited, STUCK_AFTER)} <= check.rules


def test_checks_of_every_module_are_all_in_the_list() -> None:
    """CHECKS has every check function of the audit's modules once."""
    names = [found.name for found in pkgutil.iter_modules(omctl.audit.__path__)]
    modules = [importlib.import_module(f"omctl.audit.{name}") for name in names]
    made = [each for module in modules for each in vars(module).values() if isinstance(each, Check)]
    assert len(made) == len(CHECKS)
    assert all(each in CHECKS for each in made)


def test_rules_of_checks_are_each_broken_once() -> None:
    """Each rule has a test, and belongs to one check."""
    rules = [rule for check in CHECKS for rule in check.rules]
    assert sorted(rules) == sorted(BROKEN)
