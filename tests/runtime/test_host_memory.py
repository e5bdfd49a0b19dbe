"""Freed memory is kept: the second use of a large block takes no page from the system."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from ddb_jax.runtime.host_memory import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(12_500_000)  # 100 MB, and freed
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages()
usual = pages()
assert keep_freed_memory()
pages()
print(usual, pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_a_large_block_is_used_again():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    usual, kept = map(int, done.stdout.split())
    assert kept < 100
    if usual > 10_000:  # 24,414 pages of 4 kB, unless the system hands out larger ones
        assert kept < usual / 100
