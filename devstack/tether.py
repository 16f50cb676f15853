"""Executes another program that dies with the process that started it, and drops its rights.

It runs as a script (`python -I -S tether.py PARENT SIGNAL UID GID COMMAND...`), so it imports only
the standard library. It replaces `preexec_fn`: Python code between fork and exec may deadlock in a
parent with threads, and a parent that uses gRPC has threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, death_signal: int, uid: int, gid: int, command: list[str]) -> None:
    """Changes to `uid` and `gid` (-1: unchanged), requests `death_signal` at the parent's death,
    and executes `command`.
    """
    # loaded before the change of user, after which its file may be unreadable
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if uid != -1:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if libc is not None:
        # after the change of user, which would clear it
        libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(f"the process {parent} that asked for {command[0]} is gone")
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
