"""Becomes another program that does not outlive the process that started it, and that has not its
rights.

Run as a script (`python -I -S tether.py PARENT SIGNAL UID GID COMMAND...`), so the standard library
alone. A wrapper, and not `preexec_fn`: Python code between fork and exec may deadlock where the
parent has threads, and gRPC's parent always has.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, death_signal: int, uid: int, gid: int, command: list[str]) -> None:
    """Drops to `uid` and `gid` (-1: stays), asks the kernel for `death_signal` at the parent's
    death, and becomes `command`.
    """
    # before the rights are dropped: its file may be out of reach then
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
