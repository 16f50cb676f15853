"""The errors of devstack give advice, and name those that concern a port."""

import errno

import pytest

from devstack.errors import DevstackError, PortTaken, advice, failure, refused


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('FATAL: could not extend file "base/5/1": No space left on device', "disk is full"),
        ("[ERR] JetStream failed: write /js: no space left on device", "disk is full"),
        (
            (
                'FATAL: could not resize shared memory segment "/PostgreSQL.1" to 16 bytes: No'
                " space left on device"
            ),
            "/dev/shm",
        ),
        ("could not write block: Disk quota exceeded", "quota"),
        ("mkdir: Read-only file system", "read-only"),
        ("could not map anonymous shared memory: Cannot allocate memory", "too little free memory"),
        ("could not open file: Too many open files", "ulimit"),
        ('FATAL: lock file "postmaster.pid" already exists', "Another PostgreSQL"),
        ("could not access directory: Permission denied", "belongs to another user"),
        ("segmentation fault", ""),
    ],
)
def test_known_cause_comes_with_advice(output: str, expected: str) -> None:
    """A cause that the user can remove comes with advice; an unknown one comes without."""
    assert expected in advice(output)
    assert bool(expected) == bool(advice(output))


def test_failure_message_has_the_end_of_the_output() -> None:
    """The message has the failure, the advice and the end of the output only."""
    error = failure("It died.", "first\n" + "more\n" * 40 + "No space left on device\n")
    assert str(error).startswith("It died. The disk is full")
    assert str(error).endswith("    No space left on device")
    assert "first" not in str(error)


def test_only_an_address_in_use_is_a_taken_port() -> None:
    """Only an address in use leads to another port, for each of the servers."""
    assert isinstance(failure("PostgreSQL", "could not bind: Address already in use"), PortTaken)
    assert isinstance(failure("NATS", "listen tcp: bind: address already in use"), PortTaken)
    assert isinstance(
        refused("lock", OSError(errno.EADDRINUSE, "Address already in use")), PortTaken
    )
    assert not isinstance(failure("PostgreSQL", "FATAL: out of ideas"), PortTaken)


def test_refusal_of_the_system_keeps_its_reason() -> None:
    """An operating system's error comes with advice where there is some, and with its own text
    elsewhere.
    """
    assert "The disk is full" in str(
        refused("Could not write.", OSError(errno.ENOSPC, "No space left on device"))
    )
    assert "File name too long" in str(
        refused("Could not write.", OSError(errno.ENAMETOOLONG, "File name too long"))
    )
    assert isinstance(refused("x", OSError(errno.EIO, "bad")), DevstackError)
