"""Tokens of lists and watches: compact, bounded for every list and watch, and strict when read
back.
"""

import ast
import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from chassis.values.convert import resume_token
from chassis.values.tokens import TEXT_BYTES_MAX, Kind, pack, unpack
from tests.unit.chassis.longest_tokens import characters_max
from tests.unit.contracts import rules

ROW = UUID(int=2**128 - 1)
KINDS: dict[str, Kind] = {"UUID": UUID, "int": int, "datetime": datetime, "str": str}
VALUES = st.one_of(
    st.uuids(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=64),
    st.datetimes(timezones=st.just(UTC)),
)


@given(st.lists(VALUES, max_size=5))
def test_values_survive_the_token(values: list[Any]) -> None:
    """Values of any kind and script survive, in a token within the bound of its kinds, which is
    valid in any URL.
    """
    kinds = [type(value) for value in values]
    token = pack(*values)
    assert unpack(token, *kinds) == tuple(values)
    assert len(token) <= characters_max(*kinds)
    assert token.replace("-", "").replace("_", "").isalnum() or not token


@pytest.mark.parametrize("value", ["x" * (TEXT_BYTES_MAX + 1), 2**63], ids=["text", "number"])
def test_value_beyond_its_column_makes_no_token(value: Any) -> None:
    """A token beyond its bound is a defect where it is made, not where it is read."""
    with pytest.raises(ValueError, match=r"more than|no column"):
        pack(value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0",
        b"\0\x05tea",
        b"\0\x03tea!",
        b"\0\x03te\xff",
        b"\0\x03\xed\xa0\x80",  # a lone surrogate
        b"\0\x03t\0a",
    ],
)
def test_text_that_is_no_token_is_refused(raw: bytes) -> None:
    """A text that is too short, too long, no text, half a character, or not storable by PostgreSQL
    is refused.
    """
    with pytest.raises(ValueError, match=r"token|text|codec"):
        unpack(base64.urlsafe_b64encode(raw).decode().rstrip("="), str)


@given(st.text(max_size=60))
def test_any_other_text_is_refused(text: str) -> None:
    """Any text of a caller is a ValueError, or the values of a token."""
    try:
        values = unpack(text, int, str)
    except ValueError:
        return
    assert unpack(pack(*values), int, str) == values


# --- every list and every watch


def fields(name: str) -> dict[str, FieldDescriptor]:
    """Returns the requests' fields of this name, by method."""
    methods = [method for file in rules.files() for method in rules.methods(file)]
    found = {method.name: method.input_type.fields_by_name.get(name) for method in methods}
    return {method: field for method, field in found.items() if field is not None}


def most(field: FieldDescriptor) -> int:
    """Returns how many characters the contract permits."""
    return int(field.GetOptions().Extensions[validate_pb2.field].string.max_len)


def places() -> Iterator[tuple[str, tuple[Kind, ...]]]:
    """Returns each request that the services read a page of, and the kinds of its position."""
    sources = [*rules.ROOT.glob("*_svc/rpc.py"), *(rules.ROOT / "chassis/ops").glob("*.py")]
    for path in sources:
        for method in ast.walk(ast.parse(path.read_text())):
            if isinstance(method, ast.AsyncFunctionDef) and method.name.startswith("List"):
                [names] = [list(_kinds(node)) for node in ast.walk(method) if _reads_a_page(node)]
                yield method.name, tuple([KINDS[name] for name in names] or [UUID])


def _reads_a_page(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Name) and called.id == "page_request"


def _kinds(call: ast.AST) -> Iterator[str]:
    """Returns the names of the kinds in a call of `page_request`."""
    assert isinstance(call, ast.Call)
    for argument in call.args[2:]:
        assert isinstance(argument, ast.Name)
        yield argument.id


def test_longest_token_of_each_list_fits_its_contract() -> None:
    """The longest token of each list, with texts of 64 characters of 4 bytes each, is within its
    contract.
    """
    found = dict(places())
    lists = fields("page_token")
    assert sorted(found) == sorted(lists)
    for method, field in lists.items():
        assert characters_max(int, *found[method]) <= most(field), method


@pytest.mark.parametrize(
    "text", ["\u03b1" * 64, "\u8336" * 64, "\U0001f375" * 64], ids=["Greek", "Chinese", "emoji"]
)
def test_position_of_the_longest_names_fits_a_token(text: str) -> None:
    """A position of two names of 64 characters fits into the bound of a token."""
    token = pack(0, text, text)
    assert len(token) <= min(map(most, fields("page_token").values()))
    assert unpack(token, int, str, str) == (0, text, text)


def test_longest_token_of_each_watch_fits_its_contract() -> None:
    """The longest resume_token is within each watch's contract."""
    watches = fields("resume_token")
    assert len(watches) == 2
    for field in watches.values():
        assert len(resume_token(ROW, 2**63 - 1)) <= characters_max(UUID, int) <= most(field)
