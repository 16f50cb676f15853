"""The reasons and codes of payment's code equal those of its contract."""

import ast
from pathlib import Path

from ordermesh.payment.v1 import payment_pb2

import payment_svc
from payment_svc.lifecycle import Reason
from payment_svc.model import answers
from payment_svc.model.answers import (
    AUTHORIZATION_EXPIRED,
    METHOD_INVALID,
    NOT_PROCESSED,
    NOTHING_REFUNDABLE,
)
from payment_svc.providers.sandbox import TOKENS
from payment_svc.providers.sandbox_ledger import EXCEEDS_REMAINING
from tests.unit.enums import value_names

CODE = Path(str(payment_svc.__file__)).parent
OURS = {AUTHORIZATION_EXPIRED, METHOD_INVALID, NOT_PROCESSED, NOTHING_REFUNDABLE}


def test_published_reasons_are_those_of_the_code() -> None:
    """PaymentStatusReason has exactly the reasons of the code; the value is the name."""
    assert value_names(payment_pb2.PaymentStatusReason.DESCRIPTOR) == {each.name for each in Reason}
    assert [each for each in Reason if each.value != each.name] == []


def test_every_reason_is_written_by_the_code() -> None:
    """Each reason is named outside its enum: the test reports a published one that no code
    writes.
    """
    nodes = [node for path in CODE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    named = {
        node.attr
        for node in attributes
        if isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }
    assert named == {each.name for each in Reason}


def test_published_codes_are_those_of_the_code() -> None:
    """DeclineCode and RefundFailureCode have exactly this service's and the sandbox's codes."""
    declines = {
        code
        for token in TOKENS.values()
        for code in (token.code, token.capture_code, token.void_code)
    }
    declines |= {NOT_PROCESSED, METHOD_INVALID, AUTHORIZATION_EXPIRED, EXCEEDS_REMAINING}
    refunds = {token.refund_code for token in TOKENS.values()} | {
        NOTHING_REFUNDABLE,
        EXCEEDS_REMAINING,
    }
    for codes, enum in (
        (declines, payment_pb2.DeclineCode),
        (refunds, payment_pb2.RefundFailureCode),
    ):
        assert {code.upper() for code in codes if code} == value_names(enum.DESCRIPTOR)
    assert [code for code in (declines | refunds) - {None} if code != str(code).lower()] == []


def test_codes_of_this_service_are_all_compared() -> None:
    """The test above compares each code that model/answers.py defines."""
    defined = vars(answers).items()
    assert {value for name, value in defined if name.isupper() and isinstance(value, str)} == OURS
