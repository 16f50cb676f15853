"""What an audit finds, what a check is, and the few notions that all checks share. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from ordermesh.order.v1 import order_pb2

from chassis.values.money import from_message
from omctl.audit.facts import Facts

# Orders that go on, and those of which nothing more is to come but returns.
DEAD = frozenset({order_pb2.ORDER_STATUS_CANCELLED, order_pb2.ORDER_STATUS_FAILED})
ARRIVED = frozenset({order_pb2.ORDER_STATUS_DELIVERED, order_pb2.ORDER_STATUS_REFUNDED})
AT_WORK = frozenset(
    {
        order_pb2.ORDER_STATUS_CONFIRMED,
        order_pb2.ORDER_STATUS_PROCESSING,
        order_pb2.ORDER_STATUS_SHIPPED,
    }
)


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """Two facts that contradict each other, or one that should not be. `check` names the rule,
    `subject` what it is about by its ids, `text` what exactly, and `repair` the command that
    mends it, or shows what is wrong: as a shell takes it.
    """

    check: str
    subject: str
    text: str
    repair: str


Differences = Iterator[Difference]
Find = Callable[[Facts, timedelta], Differences]


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the audit. It is made only where the services have given all that it needs.

    `find` gets the facts, and how long what goes on by itself may take. `needs` are the fields of
    Facts that it reads, `rules` the names that its differences bear. A check `by_service` looks at
    each service by itself, and so is made for those that answer.
    """

    find: Find
    needs: frozenset[str]
    rules: frozenset[str]
    by_service: bool = False


def check(*needs: str, rules: tuple[str, ...], by_service: bool = False) -> Callable[[Find], Check]:
    """Makes a function a Check."""
    return lambda find: Check(
        find=find, needs=frozenset(needs), rules=frozenset(rules), by_service=by_service
    )


def minor(money: Money) -> int:
    """Minor units; an amount that is not set is zero."""
    return from_message(money).minor if money.currency_code else 0


def older(than: Timestamp, now: datetime, age: timedelta) -> bool:
    """Whether that time is more than `age` ago; a time that is not set never is."""
    return bool(than.seconds) and now - than.ToDatetime(tzinfo=UTC) > age


def units(item: order_pb2.OrderItem) -> int:
    """The units of a line that the order still stands for."""
    return sum(allocation.quantity for allocation in item.allocations)


def undo(order_id: str) -> str:
    """The command that takes back what services do for an order that the order service lacks."""
    return f"omctl order undo {order_id}"


def cancel(order_id: str) -> str:
    """The command that cancels an order."""
    return f"omctl order cancel {order_id}"


def republish(service: str, aggregate_id: str) -> str:
    """The command that tells the others again what a service has told of one thing."""
    return f"omctl events republish --service {service} --aggregate {aggregate_id}"
