"""Picking under random scans: for any scans, in any order and pieces, no line ever has a unit too
many.
"""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from chassis.values.errors import Failure
from fulfillment_svc.lifecycle import Status
from fulfillment_svc.model.commands import Scan, ScanItems
from fulfillment_svc.model.records import Line
from tests.unit.fulfillment.samples import NOW, envelope, fulfillment_in
from tests.unit.fulfillment.samples import decide_one as decide

SKUS = st.sampled_from(["mug", "MUG", "Lamp, blue", "茶"])
PICKLISTS = st.lists(st.tuples(SKUS, st.integers(1, 6)), min_size=1, max_size=6).map(
    lambda rows: tuple(
        Line(line_number=number, sku=sku, quantity=quantity)
        for number, (sku, quantity) in enumerate(rows, 1)
    )
)
REQUESTS = st.lists(
    st.lists(st.builds(Scan, SKUS, st.integers(1, 8)), min_size=1, max_size=4), max_size=12
)


@given(PICKLISTS, REQUESTS)
def test_nothing_is_ever_picked_beyond_the_picklist(
    lines: tuple[Line, ...], requests: list[list[Scan]]
) -> None:
    """A request is taken exactly when every SKU in it has so many units open, and then counts
    each unit once; a refused one counts none.
    """
    fulfillment = fulfillment_in(Status.PICKING, lines)
    wanted, picked = Counter[str](), Counter[str]()
    for line in lines:
        wanted[line.sku] += line.quantity
    for scans in requests:
        asked = Counter[str]()
        for scan in scans:
            asked[scan.sku] += scan.quantity
        fits = all(picked[sku] + units <= wanted[sku] for sku, units in asked.items())
        try:
            fulfillment = decide(fulfillment, envelope(ScanItems, scans=tuple(scans)), NOW).record
        except Failure:
            assert not fits
        else:
            assert fits
            picked += asked
        assert all(0 <= line.picked <= line.quantity for line in fulfillment.lines)
        assert sum(line.picked for line in fulfillment.lines) == picked.total()


@given(PICKLISTS, st.randoms(use_true_random=False))
def test_unit_by_unit_is_the_same_as_all_at_once(lines: tuple[Line, ...], random: object) -> None:
    """The counts at the end do not depend on the order of the scans: every unit of the picklist,
    scanned singly in any order, closes it.
    """
    units = [Scan(line.sku, 1) for line in lines for _ in range(line.quantity)]
    # a random.Random, which hypothesis does not say
    random.shuffle(units)  # type: ignore[attr-defined]
    fulfillment = fulfillment_in(Status.PICKING, lines)
    for unit in units:
        fulfillment = decide(fulfillment, envelope(ScanItems, scans=(unit,)), NOW).record
    assert all(line.open == 0 for line in fulfillment.lines)
