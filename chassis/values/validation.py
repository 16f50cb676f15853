"""Finds the fields of a request or an event that break the rules of its contract (`buf.validate`).
Pure.

One rule is in no contract, because it applies to every text: no NUL, which PostgreSQL cannot store.
"""

from collections.abc import Sequence

from google.protobuf.message import Message
from protovalidate import Validator
from protovalidate import Violation as RuleViolation

from chassis.values.errors import Violation
from chassis.values.texts import with_nul

# It compiles the rules of a message type once, at its first message.
_VALIDATOR = Validator()


def violations(message: Message, *, fail_fast: bool = False) -> list[Violation]:
    """Returns the broken rules, each with the path of its field; with `fail_fast` no more than the
    first.

    To describe all broken fields of a message costs much more than to refuse it.
    """
    found = [
        _violation(rule) for rule in _VALIDATOR.collect_violations(message, fail_fast=fail_fast)
    ]
    if found and fail_fast:
        return found
    named = {violation.subject for violation in found}
    nul = [path for path in with_nul(message) if path not in named]
    return found + [
        Violation(path, "must not hold the character NUL", "string.no_nul") for path in nul
    ]


def summary(found: Sequence[Violation], what: str) -> str:
    """Returns one sentence for people: the first broken rule, and how many more there are. `what`
    names the message where a rule concerns it as a whole.
    """
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0].subject or what}: {found[0].description}{more}"


def _violation(broken: RuleViolation) -> Violation:
    """Returns a broken rule as a Violation: the field's path (`items[0].sku`), its requirement, and
    the rule's name.
    """
    rule = broken.proto
    path = ""
    for step in rule.field.elements if rule.field else ():
        path += f".{step.field_name}" if path else step.field_name
        if step.subscript:
            index = step.subscript.value
            path += f"[{index}]" if step.subscript.field == "index" else f"[{index!r}]"
    return Violation(path, rule.message, rule.rule_id)
