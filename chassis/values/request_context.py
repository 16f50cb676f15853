"""The key and the request hash of a request. A repeat has both; another request under the same key
has another hash.

This module has functions over a request and its descriptor. The table of keys is in
chassis/write/idempotency_keys.py.
"""

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from chassis.values.actor import claimed_actor
from chassis.values.errors import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """`key` is `/package.Service/Method:request_id`; `request_hash` is the SHA-256 of the request
    without its request_id.

    `claimed_actor` is the call's metadata ordermesh-actor, `note` the request's; None where there
    is none. A retry may claim another actor.
    """

    key: str
    request_hash: bytes
    claimed_actor: str | None = None
    note: str | None = None


def request_context(request: Message, *, leave_out: Sequence[str] = ()) -> RequestContext:
    """Returns the key and the request hash of a request that changes records, with its claimed
    actor and note.

    `leave_out` names further fields that may differ between a request and its repeat (an id that
    the caller proposes anew). Raises ValueError for a request without a request_id, and for a
    message that is not the request of exactly one method of its own file. Both are defects of the
    contract or its validation, not of the caller.
    """
    request_id: str = getattr(request, "request_id", "")
    if not request_id:
        raise ValueError(f"{request.DESCRIPTOR.full_name} came without a request_id")
    rest = deepcopy(request)
    for field in ("request_id", *leave_out):
        rest.ClearField(field)
    request_hash = hashlib.sha256(rest.SerializeToString(deterministic=True)).digest()
    return RequestContext(
        key=f"{_method(request.DESCRIPTOR)}:{request_id}",
        request_hash=request_hash,
        claimed_actor=claimed_actor(),
        note=getattr(request, "note", "") or None,
    )


class KeyReused(Invalid):
    """The refusal of a `key` that is stored with another hash: a request's `<method>:<request_id>`,
    or an event's.
    """

    def __init__(self, key: str) -> None:
        source, _, rest = key.partition(":")
        method = source.rpartition("/")[2]
        text = (
            f"This request_id stands for another request of {method}. Repeat exactly that request"
            " to get its answer, or send a new request_id."
        )
        super().__init__("REQUEST_ID_REUSED", text, request_id=rest.partition(":")[0])
        self.key = key


@cache
def _method(request: Descriptor) -> str:
    """Returns the full path of the method that takes `request`."""
    paths = [
        f"/{service.full_name}/{method.name}"
        for service in request.file.services_by_name.values()
        for method in service.methods
        if method.input_type == request
    ]
    if len(paths) != 1:
        raise ValueError(
            f"{request.full_name} is the request of {len(paths)} methods of {request.file.name},"
            " not of one"
        )
    return paths[0]
