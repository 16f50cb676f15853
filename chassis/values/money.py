"""Money: an integer of minor units with its currency, its conversion from and to google.type.Money,
and exact shares of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from google.type import money_pb2
from iso4217 import Currency

NANOS = 1_000_000_000
# The highest amount in a request or an event, in whole units of any currency: no order costs more.
UNITS_MAX = 10**12


class MoneyError(ValueError):
    """An amount that the project does not accept: an unknown currency, a fraction of a minor unit,
    or mixed signs.
    """


@dataclass(frozen=True, slots=True)
class Money:
    """`minor` units of an ISO 4217 `currency`: Money(250, "GBP") is 2.50 pounds, Money(250,
    "JPY") 250 yen.
    """

    minor: int
    currency: str

    def __str__(self) -> str:
        digits = minor_digits(self.currency)
        whole, part = divmod(abs(self.minor), 10**digits)
        sign = "-" if self.minor < 0 else ""
        return (
            f"{sign}{whole}.{part:0{digits}d} {self.currency}"
            if digits
            else f"{sign}{whole} {self.currency}"
        )


@cache
def minor_digits(currency: str) -> int:
    """Returns the number of decimal digits of the currency's minor unit, by ISO 4217: JPY 0, GBP 2,
    KWD 3. Raises MoneyError where it has none.
    """
    try:
        digits = Currency(currency).exponent
    except ValueError as error:
        raise MoneyError(f"{currency!r} is not a currency of ISO 4217") from error
    if digits is None:
        raise MoneyError(f"{currency} has no minor unit")
    return digits


def from_message(message: money_pb2.Money) -> Money:
    """Returns the exact amount of a contract's message. Raises MoneyError for a fraction of a minor
    unit, mixed signs, and nanos of a unit or more.
    """
    nanos_in_minor = NANOS // 10 ** minor_digits(message.currency_code)
    if message.units * message.nanos < 0:
        raise MoneyError("units and nanos must have the same sign")
    if abs(message.nanos) >= NANOS:
        raise MoneyError("nanos must be less than a unit")
    minor, rest = divmod(message.units * NANOS + message.nanos, nanos_in_minor)
    if rest:
        raise MoneyError(
            f"{message.currency_code} has {minor_digits(message.currency_code)} decimal digits, and"
            " the amount has more"
        )
    return Money(minor, message.currency_code)


def to_message(money: Money) -> money_pb2.Money:
    """Returns the contract's message of an amount."""
    sign = -1 if money.minor < 0 else 1
    units, rest = divmod(abs(money.minor), 10 ** minor_digits(money.currency))
    nanos = rest * (NANOS // 10 ** minor_digits(money.currency))
    return money_pb2.Money(currency_code=money.currency, units=sign * units, nanos=sign * nanos)


def split(total: int, weights: Sequence[int]) -> list[int]:
    """Splits minor units in proportion to the weights, none below zero: the shares add up to the
    total (largest remainder, the first of equals).

    If all weights are zero, they count as equal. Each share is within one minor unit of its exact
    one.
    """
    if total < 0 or any(weight < 0 for weight in weights) or (total and not weights):
        raise MoneyError("only amounts and weights of zero or more can be split")
    fair = list(weights) if sum(weights) else [1] * len(weights)
    whole = sum(fair)
    shares = [total * weight // whole for weight in fair]
    remainders = [total * weight % whole for weight in fair]
    for index in sorted(range(len(fair)), key=lambda i: -remainders[i])[: total - sum(shares)]:
        shares[index] += 1
    return shares
