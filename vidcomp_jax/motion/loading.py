"""Loading of trained motion models from the work folders of their training runs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from flax import nnx

from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.loading import fingerprint
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.motion.autoregressive import AutoregressiveConfig, AutoregressiveMotion
from vidcomp_jax.motion.flow import FlowConfig, FlowMotion
from vidcomp_jax.motion.model import MotionModel
from vidcomp_jax.motion.motion_file import MotionClips
from vidcomp_jax.motion.wgan import MotionGAN, WGANConfig
from vidcomp_jax.storage.checkpoint import load_weights
from vidcomp_jax.storage.config import ADDED_LATER, CONFIG_FILE, load_config
from vidcomp_jax.storage.steps import Which

Method = Literal["wgan", "autoregressive", "flow"]
"""The learned motion models, by the names that their commands and configs use."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """What a motion model was trained on, stored as `trained_on` in its `config.json`."""

    method: Method = "wgan"
    """Kind of motion model."""
    fingerprint: str = ""
    """Fingerprint of the keypoint model."""
    num_keypoints: int = 0
    """Number of keypoints per frame."""
    num_frames: int | None = dataclasses.field(default=None, metadata=ADDED_LATER)
    """Frames per training window; recorded for flow alone, whose windows limit what it generates at once."""

    def check(self, clips: MotionClips, path: Path) -> None:
        """Raise an `InputError` unless the clips, read from `path`, come from the same keypoint model."""
        if clips.num_keypoints != self.num_keypoints:
            raise InputError(f"{path}: {clips.num_keypoints} keypoints per frame; {self.num_keypoints} were expected")
        check_fingerprint(clips.fingerprint, self.fingerprint, str(path))


def check_fingerprint(found: str, expected: str, what: str) -> None:
    """Raise an `InputError` unless `found`, the fingerprint stored in `what`, is the expected one."""
    if not found:
        raise InputError(
            f"{what}: its keypoint model is not known; convert it again together with the motion file or keypoint model"
        )
    if found != expected:
        raise InputError(
            f"{what}: its keypoints come from the model with fingerprint {found}, not from {expected}; "
            "extract motion with the model that is used here, and train on that"
        )


def trained_method(directory: Path | str) -> Method:
    """The kind of motion model in the work folder of a training run."""
    return load_config(Path(directory) / CONFIG_FILE, TrainedOn, part="trained_on").method


def load_motion_model(
    directory: Path | str, which: Which = "latest"
) -> tuple[FlowMotion | MotionGAN | AutoregressiveMotion, TrainedOn]:
    """Load the motion model of a training run.

    Args:
        directory: work folder written by `experiments.train_flow`, `train_motion_gan` or `train_autoregressive`.
        which: the latest checkpoint, or the one with the smallest error on the validation motion.

    Returns:
        The motion model and what it was trained on.

    Raises:
        InputError: the folder, its config or its weights are missing, damaged, or do not match each other.
    """
    path = Path(directory) / CONFIG_FILE
    trained_on = load_config(path, TrainedOn, part="trained_on")
    num_keypoints = trained_on.num_keypoints

    def build() -> FlowMotion | MotionGAN | AutoregressiveMotion:
        rngs = nnx.Rngs(0)
        if trained_on.method == "flow":
            flow = load_config(path, FlowConfig, part="flow")
            return FlowMotion(flow, num_keypoints, num_frames=trained_on.num_frames or 16, rngs=rngs)
        if trained_on.method == "wgan":
            return MotionGAN(load_config(path, WGANConfig, part="wgan"), num_keypoints, rngs=rngs)
        config = load_config(path, AutoregressiveConfig, part="autoregressive")
        return AutoregressiveMotion(config, num_keypoints, rngs=rngs)

    motion = nnx.eval_shape(build)
    load_weights(motion, Path(directory), which=which)
    return motion, trained_on


def load_motion_models(
    directories: Sequence[Path], model: FirstOrderMotionModel, *, which: Which = "latest"
) -> dict[str, MotionModel]:
    """Load the motion models of several training runs, keyed by method; later runs replace earlier ones.

    Args:
        directories: work folders of the training runs.
        model: the keypoint model that the runs must have been trained with.
        which: see `load_motion_model`.

    Raises:
        InputError: a run cannot be read or was trained with another keypoint model.
    """
    learned: dict[str, MotionModel] = {}
    for directory in directories:
        motion, trained_on = load_motion_model(directory, which)
        expected = model.config.num_keypoints
        if trained_on.num_keypoints != expected:
            raise InputError(
                f"{directory}: trained on {trained_on.num_keypoints} keypoints per frame; "
                f"the keypoint model has {expected}"
            )
        check_fingerprint(trained_on.fingerprint, fingerprint(model), str(directory))
        learned[trained_on.method] = motion
    return learned
