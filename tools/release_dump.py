"""`make release-dump`: writes dumps of the five databases of a running `make run`, at a release.

They go to tests/integration/releases/<version>/<service>.sql, with schema and rows; pyproject.toml
has the version. tests/integration/test_migrations.py upgrades each dump by the later migrations.
"""

import os
import subprocess
import tomllib
from pathlib import Path

from sqlalchemy.engine import make_url

from devstack import settings
from devstack.__main__ import FOLDER
from devstack.postgres import Postgres
from devstack.rooms import installed_programs
from devstack.stack import DATABASES

ROOT = Path(__file__).resolve().parent.parent
RELEASES = ROOT / "tests/integration/releases"


def dump(url: str) -> str:
    """Returns SQL that recreates the database at `url` in an empty one; each row is an INSERT.

    The SQL has no command of psql, so that the driver can execute it.
    """
    server = make_url(url)
    written = subprocess.run(
        [
            installed_programs() / "pg_dump",
            f"--host={server.host}",
            f"--port={server.port}",
            f"--username={server.username}",
            "--inserts",
            "--no-owner",
            "--no-privileges",
            str(server.database),
        ],
        env=os.environ | {"PGPASSWORD": server.password or ""},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    lines = written.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict")))


def main() -> None:
    """Writes the dumps. Raises FileExistsError if the version has some: a release is final."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    server = Postgres(FOLDER / "postgres", settings.read(os.environ).ports.postgres)
    (RELEASES / version).mkdir(parents=True)
    for service, database in DATABASES.items():
        file = RELEASES / version / f"{service}_svc.sql"
        file.write_text(dump(server.url(database)))
        print(file.relative_to(ROOT))


if __name__ == "__main__":
    main()
