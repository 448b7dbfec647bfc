"""Training data, evaluation and panels shared by all motion models."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Array, Float

from vidcomp_jax.devices import BatchShare
from vidcomp_jax.errors import InputError, require
from vidcomp_jax.fomm.loading import fingerprint, load_fomm
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.motion.evaluation import BEST_OF, motion_errors
from vidcomp_jax.motion.loading import Method, TrainedOn, check_fingerprint
from vidcomp_jax.motion.model import MotionModel
from vidcomp_jax.motion.motion_file import MotionClips, motion_windows, sorted_frames
from vidcomp_jax.motion.panels import draw_best_of, sample_panel
from vidcomp_jax.motion.vectors import (
    JacobianLimits,
    MotionStatistics,
    Order,
    measure_limits,
    measure_statistics,
    to_vectors,
)
from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.storage.config import MAY_CHANGE
from vidcomp_jax.training.curves import draw_curves, read_scalars
from vidcomp_jax.training.run_log import METRICS

ERRORS = "motion_errors.json"
"""Name of the file in the work folder with the errors of the last evaluation."""
_EVALUATED_SAMPLES = 3200


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionFiles:
    """The files that a motion model is trained with."""

    motion: Path = dataclasses.field(default=Path("motion.npz"), metadata=MAY_CHANGE)
    """Motion of the train split, to train on; experiments.extract_motion writes it."""
    validation: Path | None = dataclasses.field(default=None, metadata=MAY_CHANGE)
    """Motion of the test split, for measuring errors in comparison with linear interpolation."""
    fomm: Path | None = dataclasses.field(default=None, metadata=MAY_CHANGE)
    """Keypoint model that the motion was extracted with; if given, panels show rendered samples."""
    num_frames: int = 16
    """Frames per training window."""

    def __post_init__(self):
        require(self.num_frames >= 3, self, "num_frames", "at least 3, for a frame between the two ends")


@dataclasses.dataclass(frozen=True, eq=False)
class MotionData:
    """The contents of the motion files, checked against each other.

    Attributes:
        files: paths of the files.
        clips: training clips.
        validation: held-out clips, if given.
        model: keypoint model, if given.
    """

    files: MotionFiles
    clips: MotionClips
    validation: MotionClips | None
    model: FirstOrderMotionModel | None

    @classmethod
    def open(cls, files: MotionFiles) -> "MotionData":
        """Read and check the files.

        Raises:
            InputError: a file cannot be read, is of the wrong split or keypoint model, or has only clips shorter than
                a training window.
        """
        clips = MotionClips.load(files.motion)
        if clips.split != "train":
            raise InputError(f"{files.motion}: motion of the {clips.split} split; train on that of the train split")
        clips.window_starts(files.num_frames)
        if short := clips.too_short(files.num_frames):
            print(f"{short} of {len(clips.names)} clips are shorter than {files.num_frames} frames and left out")
        expected = TrainedOn(fingerprint=clips.fingerprint, num_keypoints=clips.num_keypoints)
        validation = None
        if files.validation is not None:
            validation = MotionClips.load(files.validation)
            expected.check(validation, files.validation)
            if validation.split == clips.split:
                raise InputError(f"{files.validation}: motion of the train split; validate on that of the test split")
            validation.window_starts(files.num_frames)
        model = None
        if files.fomm is not None:
            model = load_fomm(files.fomm)
            check_fingerprint(clips.fingerprint, fingerprint(model), str(files.motion))
        return cls(files, clips, validation, model)

    def trained_on(self, method: Method) -> TrainedOn:
        """The description of this data that is stored with a trained model."""
        return TrainedOn(
            method=method,
            fingerprint=self.clips.fingerprint,
            num_keypoints=self.clips.num_keypoints,
            num_frames=self.files.num_frames if method == "flow" else None,
        )

    @property
    def limits(self) -> JacobianLimits:
        """Smallest and largest Jacobian entry of the training clips."""
        return measure_limits(self.clips.keypoints.jacobian)

    @property
    def limits_per_entry(self) -> JacobianLimits:
        """The same for each entry of each keypoint."""
        return measure_limits(self.clips.keypoints.jacobian, per_entry=True)

    def vectors(self, order: Order, limits: JacobianLimits | None = None) -> Float[np.ndarray, "frames v"]:
        """The motion vectors of all frames of the training clips, scaled by `limits`, those of the clips by default."""
        return np.asarray(to_vectors(self.clips.keypoints, limits or self.limits, order))

    def statistics(self, order: Order = "position-first") -> MotionStatistics:
        """Statistics of the motion vectors of the training clips."""
        starts = self.clips.window_starts(self.files.num_frames)
        return measure_statistics(self.vectors(order), starts, self.files.num_frames)

    def batches(
        self, order: Order = "position-first", *, batch_size: int, seed: int, per_example: int = 1
    ) -> Callable[[BatchShare], Iterator[Array | np.ndarray]]:
        """Batches of windows of motion vectors, in the form that `fit` expects; see `motion_windows`."""
        vectors = self.vectors(order)

        def start(share: BatchShare) -> Iterator[Array | np.ndarray]:
            return motion_windows(
                vectors,
                self.clips.window_starts(self.files.num_frames),
                num_frames=self.files.num_frames,
                batch_size=batch_size,
                per_example=per_example,
                seed=seed,
                share=share,
            )

        return start

    def frames_in_order(
        self, order: Order, limits: JacobianLimits, *, batch_size: int, seed: int
    ) -> Callable[[BatchShare], Iterator[Array | np.ndarray]]:
        """Batches of random frames in their order, in the form that `fit` expects; see `sorted_frames`."""
        vectors = self.vectors(order, limits)

        def start(share: BatchShare) -> Iterator[Array | np.ndarray]:
            return sorted_frames(
                vectors, self.clips, num_frames=self.files.num_frames, batch_size=batch_size, seed=seed, share=share
            )

        return start

    def reports(self, workdir: Path) -> dict[str, Any]:
        """The arguments `panels`, `evaluate` and `best` for `fit`, the last two only with validation clips.

        The best checkpoint is the one with the smallest energy score, which for a deterministic model is its error.
        """
        workdir = Path(workdir)
        reports: dict[str, Any] = {"panels": functools.partial(self._panels, workdir)}
        if self.validation is not None:
            reports |= {"evaluate": functools.partial(self._evaluate, workdir), "best": "energy_score"}
        return reports

    def _evaluate(self, workdir: Path, motion: MotionModel) -> dict[str, float]:
        """The errors of samples of held-out clips, which are also written to `motion_errors.json`."""
        assert self.validation is not None, "called with validation clips only"
        num_frames, samples = self.files.num_frames, max(BEST_OF) if motion.stochastic else 1
        chosen = self.validation.spread_clips(num_frames, _EVALUATED_SAMPLES // samples)
        windows = self.validation.first_windows(num_frames, chosen)
        errors = motion_errors(motion, windows, num_samples=samples)
        measured = {"clips": len(chosen), "samples": samples, "frames": num_frames, "errors": errors}
        with new_file(workdir / ERRORS) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(measured), indent=2) + b"\n")
        return errors

    def _panels(self, workdir: Path, motion: MotionModel) -> dict[str, np.ndarray]:
        shown = self.clips if self.validation is None else self.validation
        panels = {
            "samples": sample_panel(motion, shown, self.files.num_frames, model=self.model),
            "curves": draw_curves(read_scalars(workdir / METRICS)),
        }
        if motion.stochastic and self.validation is not None and (workdir / ERRORS).exists():
            panels["best-of"] = draw_best_of(msgspec.json.decode((workdir / ERRORS).read_bytes())["errors"])
        return panels
