"""The order of each service's migration files. tests/integration/test_migrations.py executes
them.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent.parent.name for path in ROOT.glob("*_svc/migrations/versions"))


@pytest.mark.parametrize("service", SERVICES)
def test_migrations_form_one_line(service: str) -> None:
    """Each service's migrations are numbered from 0001 without a gap, have their number as a name,
    and follow the previous one.
    """
    files = sorted((ROOT / service / "migrations" / "versions").glob("*.py"))
    revisions = [
        re.findall(
            r'^(?:down_)?revision(?:: [^=]*)? = (?:"(\d{4})"|None)', path.read_text(), re.MULTILINE
        )
        for path in files
    ]
    numbers = [f"{number:04}" for number in range(1, len(files) + 1)]
    assert [path.name[:4] for path in files] == numbers
    assert revisions == [
        [number, before] for number, before in zip(numbers, ["", *numbers], strict=False)
    ]
