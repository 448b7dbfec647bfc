"""Opens completion methods by name. To add a method, add an entry to `METHODS`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vidcomp_jax.completion.completers import (
    Completer,
    FrameFormat,
    KeypointCompleter,
    PixelCompleter,
    check_length,
)
from vidcomp_jax.completion.trivial import TrivialCompleter
from vidcomp_jax.errors import InputError, require_at_least
from vidcomp_jax.fomm.between import MAX_PIXELS, Render
from vidcomp_jax.fomm.loading import load_fomm
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.inbetween.generation import load_inbetween
from vidcomp_jax.inbetween.tfhub import SIZE, HubModule
from vidcomp_jax.motion.linear import LinearMotion
from vidcomp_jax.motion.loading import load_motion_models, trained_method
from vidcomp_jax.motion.model import MotionModel
from vidcomp_jax.nn.precision import Precision
from vidcomp_jax.storage.config import ADDED_LATER
from vidcomp_jax.storage.steps import Which


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """Files and options that methods are opened with."""

    fomm: Path = Path("runs/fomm")
    """Model folder or training run of the First Order Motion Model; not needed by methods over pixels."""
    motion_model: tuple[Path, ...] = ()
    """Training runs of the learned motion models, one for each method."""
    inbetween: Path | None = None
    """Training run for the method inbetween."""
    module: str = ""
    """TensorFlow Hub module for the method tfhub: a folder, or a handle such as google/tweening_conv3d_kth/1."""
    which: Which = "latest"
    """Checkpoint of training runs to load."""
    precision: Precision = dataclasses.field(default="float32", metadata=ADDED_LATER)
    """Compute in float32, or mostly in bfloat16, which is faster on GPUs and TPUs and takes less memory."""
    render: Render = "both"
    """Known frames that others are rendered from: the first one alone, or those on both sides of each frame."""
    max_pixels: int = MAX_PIXELS
    """Maximum number of pixels rendered at once, on all devices together; lower it if memory runs out."""

    def __post_init__(self):
        require_at_least(self, max_pixels=1)


class Models:
    """Models that several methods share, each loaded on first use.

    Attributes:
        settings: where they are loaded from.
    """

    def __init__(self, settings: MethodSettings):
        self.settings = settings

    @functools.cached_property
    def keypoint_model(self) -> FirstOrderMotionModel:
        """The First Order Motion Model."""
        return load_fomm(self.settings.fomm, self.settings.which, precision=self.settings.precision)

    @functools.cached_property
    def motions(self) -> dict[str, MotionModel]:
        """Motion models by the name of their method: linear interpolation and the given runs."""
        learned = load_motion_models(self.settings.motion_model, self.keypoint_model, which=self.settings.which)
        return {"linear": LinearMotion(), **learned}


def _over_keypoints(method: str, models: Models) -> Completer:
    if method not in models.motions:
        given = ", ".join(name for name in models.motions if name != "linear") or "none"
        raise InputError(f"method {method} needs `motion_model`=RUN, a run that trained one; given: {given}")
    settings = models.settings
    return KeypointCompleter(
        models.keypoint_model,
        models.motions[method],
        render=settings.render,
        max_pixels=settings.max_pixels,
        name=str(settings.fomm),
    )


def _inbetween(models: Models) -> Completer:
    run = models.settings.inbetween
    if run is None:
        raise InputError("method inbetween needs `inbetween`=RUN, a run of experiments.train_inbetween")
    model = load_inbetween(run, models.settings.which, precision=models.settings.precision)
    return PixelCompleter(model, FrameFormat(str(run), model.config.frame_size, model.config.num_channels))


def _tfhub(models: Models) -> Completer:
    module = models.settings.module
    if not module:
        raise InputError("method tfhub needs `module`, a folder or a handle such as google/tweening_conv3d_kth/1")
    return PixelCompleter(HubModule(module), FrameFormat(module, SIZE, resizes=True))


METHODS: Mapping[str, Callable[[Models], Completer]] = {
    "linear": functools.partial(_over_keypoints, "linear"),
    "flow": functools.partial(_over_keypoints, "flow"),
    "wgan": functools.partial(_over_keypoints, "wgan"),
    "autoregressive": functools.partial(_over_keypoints, "autoregressive"),
    "inbetween": _inbetween,
    "tfhub": _tfhub,
    "repeat": lambda models: TrivialCompleter(blend=False),
    "blend": lambda models: TrivialCompleter(blend=True),
}
"""Functions that open each method, by its name."""


def default_methods(settings: MethodSettings) -> tuple[str, ...]:
    """The method to use if none is named: flow, if one of the motion models is a run of it, and linear otherwise."""
    trained = {trained_method(run) for run in settings.motion_model}
    return ("flow",) if "flow" in trained else ("linear",)


def open_completers(
    methods: Sequence[str],
    settings: MethodSettings,
    num_frames: int,
    models: Models | None = None,
    known: Sequence[int] = (),
) -> dict[str, Completer]:
    """Open the completer of each method.

    Args:
        methods: names in `METHODS`.
        settings: files and options to open them with.
        num_frames: number of frames of the clips to generate.
        models: models of these settings that are loaded already; by default, they are loaded here.
        known: numbers of the known frames; the first and the last by default.

    Raises:
        InputError: a method is unknown, a file that it needs is not given or cannot be read, models do not belong
            together, or a method generates clips of another length or from other known frames.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        found = f"holds {unknown[0]}" if unknown else "is empty"
        raise InputError(f"`method` {found}; choose from {', '.join(METHODS)}")
    models = models or Models(settings)
    completers = {method: METHODS[method](models) for method in methods}
    for method, completer in completers.items():
        check_length(completer, num_frames)
        if completer.ends_only and tuple(known) not in ((), (0, num_frames - 1)):
            raise InputError(
                f"`known` is {', '.join(map(str, known))}; method {method} needs two known frames, the first and the "
                f"last: 0, {num_frames - 1}"
            )
    return completers
