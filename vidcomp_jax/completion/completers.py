"""The interface that every method of completion has, and the two kinds of methods: over keypoints and over pixels.

Input: known frames of clips and their times. Output: all frames of these clips.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Key, Real

from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.between import MAX_PIXELS, Render, render_between
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.motion.evaluation import generate
from vidcomp_jax.motion.model import MotionModel

Frames = Real[np.ndarray, "..."]


class KnownFrames(NamedTuple):
    """The frames of clips that are given.

    Attributes:
        frames: [b, n, h, w, c], floats in [0, 1]. Methods over keypoints also take integers, which are scaled by the
            range of their type.
        times: the number of each of the n frames in its clip, counted from 0 and in order.
    """

    frames: Frames
    times: tuple[int, ...]


class Completion(NamedTuple):
    """Completed clips, on the host.

    Attributes:
        frames: in [0, 1].
        keypoints: those of all frames, [b, t, k, ...]; in known frames the detected ones. None for methods without.
    """

    frames: Float[np.ndarray, "b t h w c"]
    keypoints: Keypoints | None


class FrameFormat(NamedTuple):
    """The frames that a completer takes.

    Attributes:
        needed_by: the model that says so, for messages.
        size: height and width in pixels; None for any.
        num_channels: 1 for gray, 3 for RGB; None for either.
        resizes: frames of another size are resized to `size` and back, at a loss.
    """

    needed_by: str
    size: int | None = None
    num_channels: int | None = None
    resizes: bool = False


@runtime_checkable
class Completer(Protocol):
    """A method that completes clips: `KeypointCompleter`, `PixelCompleter`."""

    @property
    def stochastic(self) -> bool:
        """Whether another key gives another clip."""
        ...

    @property
    def over_keypoints(self) -> bool:
        """Whether it moves keypoints, which the First Order Motion Model detects and renders."""
        ...

    @property
    def num_frames(self) -> int | None:
        """The only length of clips that it generates; None for any."""
        ...

    @property
    def frame_format(self) -> FrameFormat:
        """The frames that it takes."""
        ...

    def complete(self, known: KnownFrames, num_frames: int, key: Key[Array, ""]) -> Completion:
        """Generate clips of `num_frames` frames.

        Args:
            known: the given frames; today's methods take the first and the last one.
            num_frames: frames of each clip, the known ones included.
            key: of a stochastic method's samples; the others do not use it.

        Raises:
            InputError: frames, times or a length of clips that the method cannot serve.
        """
        ...


class KeypointCompleter:
    """Completes clips over keypoints: detects those of both ends, has a motion model move them, and renders frames.

    Attributes are those of `Completer`.

    Args:
        model: detects keypoints and renders.
        motion: moves the keypoints.
        render: from which ends; with `both` a clip starts and ends with exactly the given frames.
        max_pixels: most pixels to render in one program; more are rendered in chunks of frames, then of clips.
        name: of the keypoint model, for messages.

    Raises:
        InputError: the motion model is for another number of keypoints.
    """

    over_keypoints = True
    num_frames = None

    def __init__(
        self,
        model: FirstOrderMotionModel,
        motion: MotionModel,
        *,
        render: Render = "both",
        max_pixels: int = MAX_PIXELS,
        name: str = "the keypoint model",
    ):
        if motion.num_keypoints not in (None, model.config.num_keypoints):
            raise InputError(
                f"the motion model is for {motion.num_keypoints} keypoints, the keypoint model has "
                f"{model.config.num_keypoints}; train one on motion that this keypoint model extracted"
            )
        self.stochastic = motion.stochastic
        self.frame_format = FrameFormat(name, num_channels=model.config.num_channels)
        self._model, self._motion, self._render, self._max_pixels = model, motion, render, max_pixels

    def complete(self, known: KnownFrames, num_frames: int, key: Key[Array, ""]) -> Completion:
        """See `Completer.complete`."""
        first, last = first_and_last(known, num_frames)
        b, height, width, _ = first.shape
        keys = jax.random.split(key, b)
        at_a_time = max(self._max_pixels // (height * width), 1)
        parts = []
        for i in range(0, b, at_a_time):
            share = slice(i, i + at_a_time)
            ends = first[share], last[share]
            keypoints = self._model.detect(np.concatenate(ends))
            start, end = (Keypoints(*x) for x in zip(*(np.split(np.asarray(x), 2) for x in keypoints), strict=True))
            moved = generate(self._motion, start, end, num_frames, keys[share])
            frames = render_between(self._model, *ends, moved, render=self._render, max_pixels=self._max_pixels)
            parts.append(Completion(frames, jax.tree.map(np.asarray, moved)))
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)


@runtime_checkable
class PixelModel(Protocol):
    """Generates clips from their first and last frames: `InbetweenModel`, `HubModule`."""

    @property
    def stochastic(self) -> bool:
        """Whether another key gives another clip."""
        ...

    @property
    def num_frames(self) -> int:
        """The length of the clips."""
        ...

    def __call__(self, first: Frames, last: Frames, *, key: Key[Array, ""]) -> Float[np.ndarray, "b t h w c"]:
        """Clips [b, num_frames, h, w, c] between [b, h, w, c] and [b, h, w, c], all in [0, 1]."""
        ...


class PixelCompleter:
    """Completes clips without keypoints, by a network that generates frames from frames.

    Attributes are those of `Completer`.

    Args:
        model: the network.
        frame_format: the frames that it takes.
    """

    over_keypoints = False

    def __init__(self, model: PixelModel, frame_format: FrameFormat):
        self.stochastic = model.stochastic
        self.num_frames = model.num_frames
        self.frame_format = frame_format
        self._model = model

    def complete(self, known: KnownFrames, num_frames: int, key: Key[Array, ""]) -> Completion:
        """See `Completer.complete`."""
        check_length(self, num_frames)
        first, last = first_and_last(known, num_frames)
        return Completion(self._model(first, last, key=key), None)


def known_ends(first: Frames | Array, last: Frames | Array, num_frames: int) -> KnownFrames:
    """The first and the last frames [b, h, w, c] of clips as known ones; `InputError` if they are not alike."""
    if first.shape != last.shape or first.ndim != 4:
        raise InputError(
            f"first frames of shape {first.shape}, last frames of shape {last.shape}; both must be [b, h, w, c], alike"
        )
    if num_frames < 2:
        raise InputError(f"`num_frames` is {num_frames}; a clip has at least its first and its last frame, 2")
    return KnownFrames(np.stack([first, last], axis=1), (0, num_frames - 1))


def first_and_last(known: KnownFrames, num_frames: int) -> tuple[Frames, Frames]:
    """The frames [b, h, w, c] of both ends, for methods that take no others.

    Raises:
        InputError: other times are known.
    """
    if tuple(known.times) != (0, num_frames - 1) or known.frames.shape[1] != 2:
        times = ", ".join(map(str, known.times))
        raise InputError(
            f"{known.frames.shape[1]} frames are known, at times {times} of a clip of {num_frames}; this method takes "
            f"the first and the last, at times 0 and {num_frames - 1}"
        )
    return known.frames[:, 0], known.frames[:, 1]


def check_length(completer: Completer, num_frames: int) -> None:
    """Raise an `InputError` unless the completer generates clips of `num_frames` frames."""
    if completer.num_frames not in (None, num_frames):
        raise InputError(
            f"`num_frames` is {num_frames}, but {completer.frame_format.needed_by} generates clips of "
            f"{completer.num_frames}; give `num_frames`={completer.num_frames}"
        )
