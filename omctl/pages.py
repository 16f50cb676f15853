"""Lists, page by page."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from chassis.client import ask


async def pages(
    method: Any, request: Any, field: str, *, size: int, limit: int = 0, timeout_s: float | None = None
) -> AsyncGenerator[Sequence[Any], None]:
    """Each page's records, which the answers of this List method have as `field`: `limit` in all at most, 0: as many as there are.

    Afterwards the request's page_token says whether there are more. `timeout_s` is each page's own. Raises Failure.
    """
    left = limit
    while True:
        request.page_size = min(size, left) if limit else size
        page = await ask(method, request, timeout_s=timeout_s)
        records = getattr(page, field)
        left -= len(records)
        request.page_token = page.next_page_token
        yield records
        if not request.page_token or (limit and left <= 0):
            return
