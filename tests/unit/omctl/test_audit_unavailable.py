"""`omctl audit` against services: it names a service without an answer, and checks the others'
facts.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from chassis.rpc.client import connect
from chassis.values.errors import Deferred
from devstack.ports import free_ports
from omctl.__main__ import app
from omctl.audit.audit import CHECKS
from omctl.audit.facts import FactsReader
from omctl.config import SERVICES
from omctl.errors import UNAVAILABLE


class EmptyServices(grpc.GenericRpcHandler):
    """All services at once with empty lists: no bytes are a message without fields."""

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")


@pytest.fixture
def empty() -> Iterator[str]:
    """The address of services without any record."""
    server = grpc.server(
        ThreadPoolExecutor(4), handlers=[EmptyServices()], options=[("grpc.so_reuseport", 0)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def addresses(empty: str, away: str, place: str) -> dict[str, str]:
    """Returns the addresses of the services: all but one of them answer."""
    return {name: place if name == away else empty for name in SERVICES}


@pytest.mark.parametrize("away", SERVICES)
def test_audit_service_away_checks_the_rest_and_names_it(empty: str, away: str) -> None:
    """One line names the service, its address, and the skipped checks. The rest is audited, and the
    exit code means that a retry may help.
    """
    place = f"127.0.0.1:{next(iter(free_ports(1)))}"
    environment = {
        f"{name.upper()}_ADDRESS": address
        for name, address in addresses(empty, away, place).items()
    }
    result = CliRunner().invoke(app, ["audit", "--settle", "0"], env=environment)
    assert result.exit_code == UNAVAILABLE, result.output
    assert result.stdout.startswith("0 differences over 0 orders")
    assert result.stderr.startswith(f"omctl: {away}: DEPENDENCY_UNAVAILABLE")
    assert f"see whether the service at {place} is up" in result.stderr
    assert result.stderr.count("\n") == 1
    not_checked = result.stderr.partition("Not checked: ")[2].rstrip(".\n").split(", ")
    assert f"event.failed of {away}" in not_checked
    assert f"event.waiting of {away}" in not_checked
    rules = {rule for check in CHECKS for rule in check.rules}
    left_out = {rule for rule in rules if rule in not_checked}
    assert 0 < len(left_out) < len(rules)
    assert not any("event.failed of" in rule for rule in not_checked if away not in rule)


def test_audit_service_away_is_a_json_line(empty: str) -> None:
    """The JSON on stdout shows a script that the audit is incomplete."""
    place = f"127.0.0.1:{next(iter(free_ports(1)))}"
    environment = {
        f"{name.upper()}_ADDRESS": address
        for name, address in addresses(empty, "payment", place).items()
    }
    result = CliRunner().invoke(app, ["audit", "--settle", "0", "--json"], env=environment)
    assert result.exit_code == UNAVAILABLE, result.output
    [output] = map(json.loads, result.stdout.splitlines())
    assert (output["check"], output["subject"], output["repair"]) == (
        "audit.incomplete",
        "payment",
        "omctl audit",
    )
    assert "payment.ceiling" in output["text"]


def test_audit_with_all_services_reports_no_gap(empty: str) -> None:
    """If every service answers, the audit names none: the counterpart of the test above."""
    environment = {f"{name.upper()}_ADDRESS": empty for name in SERVICES}
    result = CliRunner().invoke(app, ["audit", "--settle", "0"], env=environment)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("0 differences over 0 orders")


async def test_facts_reader_names_the_unavailable_service(empty: str) -> None:
    """A service that does not answer raises nothing: each of its facts is a gap, with its failure
    and its name.
    """
    async with (
        connect(empty) as answering,
        connect(f"127.0.0.1:{next(iter(free_ports(1)))}") as silent,
    ):
        channels = {name: silent if name == "shipping" else answering for name in SERVICES}
        facts = await FactsReader(channels).read()
    assert {gap.service for gap in facts.gaps} == {"shipping"}
    assert {type(gap.failure) for gap in facts.gaps} == {Deferred}
