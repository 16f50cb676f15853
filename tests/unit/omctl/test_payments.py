"""`omctl payment ...`: its requests and its output."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.type.money_pb2 import Money
from ordermesh.payment.v1 import payment_pb2, payment_service_pb2
from ordermesh.payment.v1.payment_service_pb2_grpc import (
    PaymentServiceServicer,
    add_PaymentServiceServicer_to_server,
)
from typer.testing import CliRunner, Result

from omctl.__main__ import app

PAYMENT_ID = "01890000-0000-7000-8000-000000000001"
RETURN_ID = "01890000-0000-7000-8000-000000000002"
REQUEST_ID = "6a0c9f5e-0000-4000-8000-000000000001"


class Till(PaymentServiceServicer):
    """Records the requests, and has one payment of 7.50, of which 2.50 is refunded."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        paid = Money(currency_code="GBP", units=7, nanos=500_000_000)
        self.payment = payment_pb2.Payment(
            payment_id=PAYMENT_ID,
            attempt=1,
            status=payment_pb2.PAYMENT_STATUS_PARTIALLY_REFUNDED,
            refunded_amount=Money(currency_code="GBP", units=2, nanos=500_000_000),
            refund_pending_amount=Money(currency_code="GBP"),
            amount=paid,
            authorized_amount=paid,
            captured_amount=paid,
        )

    def ListPayments(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return payment_service_pb2.ListPaymentsResponse(payments=[self.payment])

    def ResolveContradiction(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return payment_service_pb2.ResolveContradictionResponse(payment=self.payment)

    def VoidPayment(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return payment_service_pb2.VoidPaymentResponse(payment=self.payment)

    def RefundPayment(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return payment_service_pb2.RefundPaymentResponse(payment=self.payment)


@pytest.fixture
def till() -> Till:
    # A test needs few of a service's methods; gRPC answers UNIMPLEMENTED for the others.
    return Till()  # type: ignore[abstract]


@pytest.fixture
def address(till: Till) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    add_PaymentServiceServicer_to_server(till, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def omctl(address: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"PAYMENT_ADDRESS": address})


def test_payments_are_listed(till: Till, address: str) -> None:
    """The output has the named order's payments, with the captured and the refunded amounts."""
    shown = omctl(address, "payment", "list", PAYMENT_ID).stdout
    assert till.requests[0].order_id == PAYMENT_ID
    assert shown.splitlines()[1].split() == [
        PAYMENT_ID,
        "1",
        "partially_refunded",
        "7.50",
        "GBP",
        "7.50",
        "GBP",
        "2.50",
        "GBP",
        "0.00",
        "GBP",
    ]


@pytest.mark.parametrize(
    ("options", "minor"), [((), None), (("--amount", "1.25", "--currency", "gbp"), 125)]
)
def test_refund_sends_the_amount_under_one_request_id(
    till: Till, address: str, options: tuple[str, ...], minor: int | None
) -> None:
    """The request has the given amount, or all that remains. The request_id is printed before the
    call.
    """
    result = omctl(address, "payment", "refund", PAYMENT_ID, *options, "--request-id", REQUEST_ID)
    assert result.exit_code == 0, result.output
    [request] = till.requests
    assert (request.request_id, request.payment_id) == (REQUEST_ID, PAYMENT_ID)
    assert f"request_id {REQUEST_ID}\n" in result.stderr
    assert (
        request.amount.units * 100 + request.amount.nanos // 10**7
        if request.HasField("amount")
        else None
    ) == minor


def test_void_sends_the_payment_under_one_request_id(till: Till, address: str) -> None:
    """The named payment is voided and shown. The request_id is printed before the call."""
    result = omctl(address, "payment", "void", PAYMENT_ID, "--request-id", REQUEST_ID)
    assert result.exit_code == 0, result.output
    assert till.requests == [
        payment_service_pb2.VoidPaymentRequest(request_id=REQUEST_ID, payment_id=PAYMENT_ID)
    ]
    assert f"request_id {REQUEST_ID}\n" in result.stderr
    assert PAYMENT_ID in result.stdout


def test_refund_of_a_return_sends_no_amount(till: Till, address: str) -> None:
    """The request names the return without an amount, which the return determines. An invalid id is
    a usage error.
    """
    assert (
        omctl(
            address,
            "payment",
            "refund",
            PAYMENT_ID,
            "--return",
            RETURN_ID,
            "--request-id",
            REQUEST_ID,
        ).exit_code
        == 0
    )
    assert till.requests == [
        payment_service_pb2.RefundPaymentRequest(
            request_id=REQUEST_ID, payment_id=PAYMENT_ID, return_id=RETURN_ID
        ),
    ]
    assert omctl(address, "payment", "refund", PAYMENT_ID, "--return", "rma").exit_code == 2


def test_refund_sends_the_expected_version(till: Till, address: str) -> None:
    """A command that the audit printed refunds nothing of a payment that has changed since. Version
    0 is invalid.
    """
    assert (
        omctl(
            address,
            "payment",
            "refund",
            PAYMENT_ID,
            "--expected-version",
            "7",
            "--request-id",
            REQUEST_ID,
        ).exit_code
        == 0
    )
    assert till.requests == [
        payment_service_pb2.RefundPaymentRequest(
            request_id=REQUEST_ID, payment_id=PAYMENT_ID, expected_version=7
        ),
    ]
    assert omctl(address, "payment", "refund", PAYMENT_ID, "--expected-version", "0").exit_code == 2


@pytest.mark.parametrize("command", ["void", "refund"])
def test_money_command_sends_its_note(till: Till, address: str, command: str) -> None:
    """The request has the --note, or none."""
    assert omctl(address, "payment", command, PAYMENT_ID, "--note", "asked by phone").exit_code == 0
    assert omctl(address, "payment", command, PAYMENT_ID).exit_code == 0
    first, second = till.requests
    assert (first.note, second.HasField("note")) == ("asked by phone", False)


def test_amount_needs_its_currency(address: str) -> None:
    """An amount without its currency is a usage error."""
    assert omctl(address, "payment", "refund", PAYMENT_ID, "--amount", "1").exit_code == 2


CONTRADICTION_ID = "01890000-0000-7000-8000-000000000003"


def test_contradictions_of_a_processor_are_listed(till: Till, address: str) -> None:
    """The output has the processor's two outcomes of the operation, the report and its payload's
    hash.
    """
    operation = till.payment.operations.add(
        kind=payment_pb2.PAYMENT_OPERATION_KIND_CHARGE,
        operation_id=RETURN_ID,
        outcome=payment_pb2.PAYMENT_OPERATION_OUTCOME_FAILED,
    )
    operation.contradictions.add(
        contradiction_id=CONTRADICTION_ID,
        outcome=payment_pb2.PAYMENT_OPERATION_OUTCOME_SUCCEEDED,
        report_id="evt_1",
        payload_sha256="ab12",
    )
    shown = omctl(address, "payment", "contradictions", PAYMENT_ID).stdout.splitlines()[1].split()
    expected = [
        PAYMENT_ID,
        CONTRADICTION_ID,
        "charge",
        RETURN_ID,
        "failed",
        "succeeded",
        "evt_1",
        "ab12",
    ]
    assert (shown[:8], shown[-1]) == (expected, "-")


def test_contradiction_is_resolved_with_a_note(till: Till, address: str) -> None:
    """The note is required and sent. The request_id is printed before the call."""
    typed = ("payment", "resolve", PAYMENT_ID, CONTRADICTION_ID, "--request-id", REQUEST_ID)
    result = omctl(address, *typed, "--note", "given back there")
    assert result.exit_code == 0, result.output
    assert till.requests == [
        payment_service_pb2.ResolveContradictionRequest(
            request_id=REQUEST_ID,
            payment_id=PAYMENT_ID,
            contradiction_id=CONTRADICTION_ID,
            note="given back there",
        )
    ]
    assert f"request_id {REQUEST_ID}\n" in result.stderr
    assert omctl(address, *typed).exit_code == 2
