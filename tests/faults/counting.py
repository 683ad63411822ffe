"""A maker of batches that are numbers, and that fails in a chosen way; light enough for processes to start at once."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from emojax.errors import DataError


class Counting:
    """step -> (the step, three times). At step `at` it does `what`, `times` times in all its processes together.

    A file in `folder` for each time: the processes have nothing else in common.
    """

    layout = np.dtype([("step", np.int64, (3,))], align=True)

    def __init__(self, folder: Path, what: str = "", at: int = -1, times: int = 1) -> None:
        self.folder, self.what, self.at, self.times = folder, what, at, times

    def __setstate__(self, state):
        self.__dict__ = state
        if self.what == "never starts" and self.is_due():
            time.sleep(600)

    def __call__(self, step):
        if step == self.at and self.is_due():
            getattr(self, self.what)()
        return (np.full(3, step, np.int64),)

    def is_due(self):
        for n in range(self.times):
            try:
                (self.folder / str(n)).touch(exist_ok=False)
                return True
            except FileExistsError:
                continue
        return False

    def killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def stopped(self):
        os.kill(os.getpid(), signal.SIGSTOP)

    def ends(self):
        os._exit(0)

    def sleeps(self):
        time.sleep(600)

    def raises(self):
        raise DataError("row 7 is wrong")

    def breaks(self):
        raise ZeroDivisionError("a defect")
