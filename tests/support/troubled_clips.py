"""Clips for reader processes, which must be able to import their class, that do odd things when they are read."""

import os
import signal
import time

import numpy as np

from vidcomp_jax.errors import InputError


class TroubledClips:
    """Eight clips of five frames, whose pixels are the number of the clip; `trouble` is what happens with clip 7."""

    fps, frame_shape = 25.0, (4, 4, 1)

    def __init__(self, trouble):
        self.trouble = trouble
        self.names, self.subjects = [f"clip{number}" for number in range(8)], np.arange(8)
        self.lengths = np.full(8, 5)

    def frames(self, clip, indices):
        if clip == 7:
            getattr(self, f"_{self.trouble}")()
        return np.full((len(indices), 4, 4, 1), clip, np.uint8)

    def _unreadable(self):
        raise InputError("seven.avi: cannot be decoded")

    def _cut_off(self):
        raise EOFError("seven.zip ends too early")

    def _bug(self):
        raise _OddError(1, 2)

    def _killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def _exit(self):
        os._exit(3)

    def _talkative(self):
        print("seven")
        os.write(1, b"seven")

    def _slow(self):
        time.sleep(60)


class _OddError(Exception):
    """An error that cannot be unpickled."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
