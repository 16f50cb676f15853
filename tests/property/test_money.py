"""Money: amounts, their one conversion, and shares. For every currency of ISO 4217, and any
amount.
"""

from fractions import Fraction

import pytest
from google.type import money_pb2
from hypothesis import assume, given
from hypothesis import strategies as st
from iso4217 import Currency

from chassis.values.money import Money, MoneyError, from_message, minor_digits, split, to_message

CURRENCIES = sorted(c.code for c in Currency if c.exponent is not None)
WITHOUT = sorted(c.code for c in Currency if c.exponent is None)  # gold, drawing rights, testing
minors = st.integers(-(10**15), 10**15)
currencies = st.sampled_from(CURRENCIES)
amounts = st.builds(Money, minors, currencies)


@pytest.mark.parametrize(
    ("currency", "digits"),
    [
        ("JPY", 0),
        ("KRW", 0),
        ("GBP", 2),
        ("EUR", 2),
        ("USD", 2),
        ("KWD", 3),
        ("BHD", 3),
        ("CLF", 4),
    ],
)
def test_currency_has_its_minor_digits(currency: str, digits: int) -> None:
    """A yen has no minor unit smaller than itself, a dinar has thousandths."""
    assert minor_digits(currency) == digits


@pytest.mark.parametrize("currency", ["", "gbp", "XXX", "GB", "GBPX", "ZZZ", *WITHOUT])
def test_unknown_currency_is_refused(currency: str) -> None:
    """A code that ISO 4217 does not have, or that has no minor unit, cannot be reckoned with."""
    with pytest.raises(MoneyError):
        minor_digits(currency)


@given(amounts)
def test_there_and_back_is_exact(money: Money) -> None:
    """What the contract says of an amount is that amount, to the last minor unit, of either
    sign.
    """
    message = to_message(money)
    assert from_message(message) == money
    assert message.units * message.nanos >= 0
    assert abs(message.nanos) < 10**9
    assert Fraction(message.units) + Fraction(message.nanos, 10**9) == Fraction(
        money.minor, 10 ** minor_digits(money.currency)
    )


@given(amounts)
def test_it_is_read_as_people_write_it(money: Money) -> None:
    """Its text is the decimal amount with as many digits as the currency has, and the currency."""
    number, currency = str(money).split()
    assert (Fraction(number), currency) == (
        Fraction(money.minor, 10 ** minor_digits(money.currency)),
        money.currency,
    )
    assert len(number.partition(".")[2]) == minor_digits(money.currency)


@given(currencies, st.integers(-(10**12), 10**12), st.integers(-999_999_999, 999_999_999))
def test_a_fraction_of_a_minor_unit_is_refused(currency: str, units: int, nanos: int) -> None:
    """Nothing is rounded: an amount finer than the currency is no amount."""
    assume(units * nanos >= 0)
    assume(nanos % (10**9 // 10 ** minor_digits(currency)))
    with pytest.raises(MoneyError, match="decimal digits"):
        from_message(money_pb2.Money(currency_code=currency, units=units, nanos=nanos))


@given(currencies, st.integers(1, 10**12), st.integers(1, 999_999_999), st.booleans())
def test_mixed_signs_are_refused(currency: str, units: int, nanos: int, swapped: bool) -> None:
    """Minus one and a half is -1 and -500,000,000; anything else is a mistake of the sender's."""
    sign = -1 if swapped else 1
    with pytest.raises(MoneyError, match="sign"):
        from_message(
            money_pb2.Money(currency_code=currency, units=sign * units, nanos=-sign * nanos)
        )


@given(currencies, st.integers(0, 10**12), st.integers(10**9, 2**31 - 1), st.sampled_from([1, -1]))
def test_nanos_beyond_one_unit_are_refused(
    currency: str, units: int, nanos: int, sign: int
) -> None:
    """A billion nanos are a unit, and are to be said so."""
    with pytest.raises(MoneyError, match="nanos"):
        from_message(
            money_pb2.Money(currency_code=currency, units=sign * units, nanos=sign * nanos)
        )


totals = st.integers(0, 10**12)
weights = st.lists(st.integers(0, 10**9), min_size=1, max_size=500)


@given(totals, weights)
def test_shares_add_up_and_are_fair(total: int, parts: list[int]) -> None:
    """The shares make the total, and each is within one minor unit of its exact share."""
    shares = split(total, parts)
    assert sum(shares) == total
    fair = parts if sum(parts) else [1] * len(parts)
    for share, weight in zip(shares, fair, strict=True):
        assert abs(share - Fraction(total * weight, sum(fair))) < 1
        assert share >= 0


@given(totals, weights)
def test_zero_weight_gets_nothing(total: int, parts: list[int]) -> None:
    """This holds if any part has a weight."""
    assume(sum(parts))
    assert all(
        share == 0 for share, weight in zip(split(total, parts), parts, strict=True) if weight == 0
    )


@given(totals, weights)
def test_more_weight_is_no_smaller_share(total: int, parts: list[int]) -> None:
    """And of equals the first get the units that are left over: the same split always has the
    same shares.
    """
    shares = split(total, parts)
    ordered = sorted(
        zip(parts, shares, range(len(parts)), strict=True), key=lambda x: (-x[0], x[2])
    )
    assert [share for _, share, _ in ordered] == sorted(shares, reverse=True)


@given(totals, weights, st.integers(1, 1000))
def test_only_proportions_count(total: int, parts: list[int], times: int) -> None:
    """Weights in other units give the same shares."""
    assert split(total, [weight * times for weight in parts]) == split(total, parts)


def test_examples() -> None:
    """A pound among three, nothing among some, a total among free items, nothing among no parts."""
    assert split(100, [1, 1, 1]) == [34, 33, 33]
    assert split(0, [5, 0, 7]) == [0, 0, 0]
    assert split(5, [0, 0]) == [3, 2]
    assert split(0, []) == []


@pytest.mark.parametrize(("total", "parts"), [(-1, [1]), (1, [-1, 2]), (1, [])])
def test_impossible_split_is_refused(total: int, parts: list[int]) -> None:
    """Debts, negative weights, and an amount among no parts."""
    with pytest.raises(MoneyError):
        split(total, parts)
