"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from emojax import memory
if {keep}:
    memory.keep_freed()
import numpy as np

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

np.ones(30_000_000)
before = faults()
for _ in range(3):
    np.ones(30_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_the_second_array_of_a_size_costs_no_new_pages():
    """240 MB are 58,594 pages of 4 KiB; without keeping them, every array asks for most of them again."""
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, check=True).stdout)
        for keep in (True, False)
    )
    assert kept < 1_000 < returned


@pytest.mark.parametrize(
    "entry", ["main.run_with_errors(['emojax.main', '--config=no.py'])", "cli.main(['train', '--config=no.py'])"]
)
def test_memory_is_kept_before_any_library_has_started_a_thread(entry):
    """Heaps of threads that exist already are out of reach, and shrink."""
    code = f"""
import sys, threading
from emojax import cli, main, memory
memory.keep_freed = lambda: print(threading.active_count(), {{"jax", "numpy", "pyarrow"}} & set(sys.modules))
{entry}
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[0] == "1 set()" and "no.py" in ran.stderr
