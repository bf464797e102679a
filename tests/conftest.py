"""Makes the tests' own modules importable, wherever pytest is started; one thread a process, as agents run."""

import os
import sys
from pathlib import Path

from hypothesis import settings

# Two workers with two threads each would wait for each other on two cores.
os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "e2e")]
# How long one example takes says how busy the machine is.
settings.register_profile("hansa", deadline=None)
settings.load_profile("hansa")
