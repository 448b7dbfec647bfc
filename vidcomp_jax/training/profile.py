"""Records a trace of a few rounds of a loop, for TensorBoard or Perfetto.

The parts of the networks appear under their names, such as `keypoint_detector`, `dense_motion` and `generator_decode`.
"""

import contextlib
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from vidcomp_jax.errors import InputError

SKIPPED_ROUNDS, TRACED_ROUNDS = 3, 5
"""Rounds before the trace, in which programs are compiled and read-ahead fills up, and rounds in it."""


class Profile(contextlib.AbstractContextManager["Profile"]):
    """A trace of `TRACED_ROUNDS` rounds of a loop.

    Call `begin_round` before every round. The trace is written to a new folder, `FOLDER/plugins/profile/TIME`, on
    process 0 alone.

    Args:
        folder: where to write it; None records nothing.

    Raises:
        InputError: `folder` is a file.
    """

    def __init__(self, folder: Path | None):
        self._folder = folder if jax.process_index() == 0 else None
        if self._folder is not None:
            if self._folder.exists() and not self._folder.is_dir():
                raise InputError(f"`profile` is {folder}, which is a file; it must be a folder")
            self._folder.mkdir(parents=True, exist_ok=True)
        self._round, self._running = 0, False

    def begin_round(self, results: Any) -> None:
        """Count a round, and start or end the trace if it is due.

        Args:
            results: arrays that earlier rounds compute; they are waited for where the trace starts and ends.
        """
        if self._folder is None:
            return
        if self._round == SKIPPED_ROUNDS:
            jax.block_until_ready(results)
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif self._round == SKIPPED_ROUNDS + TRACED_ROUNDS:
            self._stop(results)
        self._round += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._running:
            self._stop(())
        elif self._folder is not None and self._round <= SKIPPED_ROUNDS and kind is None:
            print(
                f"no trace in {self._folder}: it begins after {SKIPPED_ROUNDS} rounds, and there were {self._round}",
                file=sys.stderr,
            )

    def _stop(self, results: Any) -> None:
        jax.block_until_ready(results)
        jax.profiler.stop_trace()
        self._running = False
        print(f"trace in {self._folder}: `tensorboard --logdir={self._folder}`, or ui.perfetto.dev", file=sys.stderr)
