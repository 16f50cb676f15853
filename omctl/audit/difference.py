"""The types Difference and Check, and the functions that all checks share. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from ordermesh.order.v1 import order_pb2

from chassis.values.money import from_message
from omctl.audit.facts import Facts

# Groups of order statuses. After ARRIVED only returns follow.
CANCELLED_OR_FAILED = frozenset({order_pb2.ORDER_STATUS_CANCELLED, order_pb2.ORDER_STATUS_FAILED})
ARRIVED = frozenset({order_pb2.ORDER_STATUS_DELIVERED, order_pb2.ORDER_STATUS_REFUNDED})
NOT_CONFIRMED = frozenset({order_pb2.ORDER_STATUS_UNSPECIFIED, order_pb2.ORDER_STATUS_PENDING})
AT_WORK = frozenset(order_pb2.OrderStatus.values()) - NOT_CONFIRMED - CANCELLED_OR_FAILED - ARRIVED


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Difference:
    """Two facts that contradict each other, or one that breaks a rule.

    `check` names the rule, `subject` the record with its ids, and `text` the contradiction.
    `repair` is the shell command that repairs it or shows more.
    """

    check: str
    subject: str
    text: str
    repair: str


Differences = Iterator[Difference]
Find = Callable[[Facts, timedelta], Differences]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of the audit. It runs only if the services have answered with all facts it needs.

    `find` gets the facts, and the time that an automatic step may take. `needs` are the fields of
    Facts that it reads, `rules` the names of its differences. A check `by_service` reads each
    service separately, so it runs for the services that answer.
    """

    find: Find
    needs: frozenset[str]
    rules: frozenset[str]
    by_service: bool = False


def check(*needs: str, rules: tuple[str, ...], by_service: bool = False) -> Callable[[Find], Check]:
    """Returns a decorator that makes a function a Check."""
    return lambda find: Check(
        find=find, needs=frozenset(needs), rules=frozenset(rules), by_service=by_service
    )


def minor(money: Money) -> int:
    """Returns the amount in minor units; an amount that is not set is zero."""
    return from_message(money).minor if money.currency_code else 0


def older(than: Timestamp, now: datetime, age: timedelta) -> bool:
    """Returns whether the time is more than `age` ago; False for a time that is not set."""
    return bool(than.seconds) and now - than.ToDatetime(tzinfo=UTC) > age


def undo(order_id: str) -> str:
    """Returns the command that undoes the services' work for an order that order lacks."""
    return f"omctl order undo {order_id}"


def cancel(order_id: str) -> str:
    """Returns the command that cancels an order."""
    return f"omctl order cancel {order_id}"


def republish(service: str, aggregate_id: str) -> str:
    """Returns the command that publishes a service's events of one aggregate again."""
    return f"omctl events republish --service {service} --aggregate {aggregate_id}"
