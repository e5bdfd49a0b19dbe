"""Settings of Linux' C library for memory allocation, for XLA's CPU backend."""

import ctypes
import platform

# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Keep large freed blocks of memory for reuse, instead of returning them to the system.

    XLA allocates a program's scratch memory in every call, a gigabyte for a small UNet's training
    step. glibc maps such a block again each time and the system clears it page by page, which took
    an eighth of that step. With this, the process keeps its peak memory until it ends.

    Call it before threads are started, because a thread keeps the heap it has.

    Returns:
        Whether there was glibc, and it took the settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1))
    return all(mallopt(name, value) for name, value in settings)
