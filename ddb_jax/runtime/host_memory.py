"""How the C library of Linux hands out memory, for XLA's CPU backend."""

import ctypes
import platform

# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Keep large blocks of freed memory for the next time, instead of giving them back.

    XLA allocates a program's scratch memory in every call, a gigabyte for a small UNet's training
    step. glibc maps so large a block anew each time and the system clears it page by page, which
    took an eighth of that step. Afterwards the memory of a process is at its highest until it ends.

    To be called before threads are started: those that have a heap of their own keep it.

    Returns:
        Whether there was glibc, and it took the settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1))
    return all(mallopt(name, value) for name, value in settings)
