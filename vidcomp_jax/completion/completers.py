"""Defines the interface of completion methods, and implements it for methods over keypoints and over pixels.

Input: known frames of clips and their times. Output: all frames of these clips.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Key, Real

from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.animation import detect_keypoints
from vidcomp_jax.fomm.between import MAX_PIXELS, Render, render_between
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.motion.fill import check_model, fill
from vidcomp_jax.motion.known import check_ends, check_times
from vidcomp_jax.motion.model import MotionModel
from vidcomp_jax.nn.frames import unit_frames
from vidcomp_jax.replicas import Devices, Replicas

Frames = Real[np.ndarray, "..."]


class KnownFrames(NamedTuple):
    """The given frames of clips.

    Attributes:
        frames: [b, n, h, w, c], floats in [0, 1]. Methods over keypoints also accept integers, which are scaled by
            the range of their type.
        times: index of each of the n frames in its clip, from 0, in ascending order.
    """

    frames: Frames
    times: tuple[int, ...]


class Completion(NamedTuple):
    """Completed clips, on the host.

    Attributes:
        frames: in [0, 1].
        keypoints: keypoints of all frames, [b, t, k, ...], as detected in known frames; None for methods without them.
    """

    frames: Float[np.ndarray, "b t h w c"]
    keypoints: Keypoints | None


class FrameFormat(NamedTuple):
    """The frames that a completer accepts.

    Attributes:
        needed_by: name of the model that requires them, for messages.
        size: height and width in pixels; None for any.
        num_channels: 1 for gray, 3 for RGB; None for either.
        resizes: whether frames of another size are resized to `size` and back, which loses detail.
    """

    needed_by: str
    size: int | None = None
    num_channels: int | None = None
    resizes: bool = False


@runtime_checkable
class Completer(Protocol):
    """A method that completes clips, such as `KeypointCompleter` or `PixelCompleter`."""

    @property
    def stochastic(self) -> bool:
        """Whether another key gives another clip."""
        ...

    @property
    def ends_only(self) -> bool:
        """Whether the known frames must be the first and the last one; otherwise any two or more may be known."""
        ...

    @property
    def over_keypoints(self) -> bool:
        """Whether it moves keypoints, which the First Order Motion Model detects and renders."""
        ...

    @property
    def num_frames(self) -> int | None:
        """The only clip length that it generates, in frames; None for any."""
        ...

    @property
    def frame_format(self) -> FrameFormat:
        """The frames that it accepts."""
        ...

    def complete(self, known: KnownFrames, num_frames: int, key: Key[Array, ""]) -> Completion:
        """Generate clips of `num_frames` frames.

        Args:
            known: the given frames, two or more; methods with `ends_only` accept the first and the last one alone.
            num_frames: number of frames of each clip, the known ones included.
            key: random key of a stochastic method; the others ignore it.

        Raises:
            InputError: the method does not support these frames, their times or this number of frames.
        """
        ...


class KeypointCompleter:
    """Completes clips over keypoints: detects them in known frames, fills in those between, and renders frames.

    The attributes are those of `Completer`.

    Args:
        model: detects keypoints and renders frames.
        motion: fills in the keypoints between known ones.
        render: known frames to render from; with `both`, known frames come out exactly.
        max_pixels: maximum number of pixels to render at once, on all devices together; larger inputs are split into
            chunks.
        devices: devices of this process that share the work; all of them if None.
        name: name of the keypoint model in messages.

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
        devices: Devices = None,
        name: str = "the keypoint model",
    ):
        check_model(motion, model.config.num_keypoints)
        self.stochastic, self.ends_only = motion.stochastic, motion.ends_only
        self.frame_format = FrameFormat(name, num_channels=model.config.num_channels)
        self._model, self._motion, self._devices = model, motion, devices
        self._render, self._max_pixels = render, max_pixels

    def complete(self, known: KnownFrames, num_frames: int, key: Key[Array, ""]) -> Completion:
        """See `Completer.complete`."""
        check_known(known, num_frames)
        b, n, height, width, channels = known.frames.shape
        keys = jax.random.split(key, b)
        at_a_time = max(self._max_pixels // (height * width), 1)
        parts, network = [], Replicas(self._model, self._devices)
        for i in range(0, b, at_a_time):
            share = slice(i, i + at_a_time)
            frames = np.asarray(known.frames[share])
            flat = unit_frames(frames.reshape(-1, height, width, channels))
            found = network.run(detect_keypoints, network.filled_up(flat, len(flat)), axes=(0,))
            detected = Keypoints(*(np.asarray(x)[: len(flat)].reshape(-1, n, *x.shape[1:]) for x in found))
            moved = fill(self._motion, detected, known.times, num_frames, keys[share])
            rendered = render_between(
                self._model,
                *(frames, known.times, moved),
                render=self._render,
                max_pixels=self._max_pixels,
                devices=self._devices,
            )
            parts.append(Completion(rendered, jax.tree.map(np.asarray, moved)))
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)


@runtime_checkable
class PixelModel(Protocol):
    """A model that generates clips from their first and last frames, such as `InbetweenModel` or `HubModule`."""

    @property
    def stochastic(self) -> bool:
        """Whether another key gives another clip."""
        ...

    @property
    def num_frames(self) -> int:
        """The length of the clips in frames."""
        ...

    def __call__(self, first: Frames, last: Frames, *, key: Key[Array, ""]) -> Float[np.ndarray, "b t h w c"]:
        """Generate clips [b, num_frames, h, w, c] from first and last frames [b, h, w, c], all in [0, 1]."""
        ...


class PixelCompleter:
    """Completes clips without keypoints, with a network that generates frames from frames.

    The attributes are those of `Completer`.

    Args:
        model: the network.
        frame_format: the frames that it accepts.
    """

    over_keypoints = False
    ends_only = True

    def __init__(self, model: PixelModel, frame_format: FrameFormat):
        self.stochastic = model.stochastic
        self.num_frames = model.num_frames
        self.frame_format = frame_format
        self._model = model

    def complete(self, known: KnownFrames, num_frames: int, key: Key[Array, ""]) -> Completion:
        """See `Completer.complete`."""
        check_length(self, num_frames)
        first, last = first_and_last(known, num_frames)
        frames = np.array(self._model(first, last, key=key))
        frames[:, 0], frames[:, -1] = unit_frames(first), unit_frames(last)
        return Completion(frames, None)


def known_ends(first: Frames | Array, last: Frames | Array, num_frames: int) -> KnownFrames:
    """The first and last frames [b, h, w, c] of clips of `num_frames` frames as known frames.

    Raises:
        InputError: the shapes differ or are not [b, h, w, c], or `num_frames` is below 2.
    """
    if first.shape != last.shape or first.ndim != 4:
        raise InputError(
            f"first frames of shape {first.shape}, last frames of shape {last.shape}; "
            "both must be [b, h, w, c], of the same shape"
        )
    if num_frames < 2:
        raise InputError(f"`num_frames` is {num_frames}; a clip has at least its first and its last frame, 2")
    return KnownFrames(np.stack([first, last], axis=1), (0, num_frames - 1))


def check_known(known: KnownFrames, num_frames: int) -> None:
    """Raise an `InputError` unless the known frames are [b, n, h, w, c] and their times fit a clip of that length."""
    if num_frames < 2:
        raise InputError(f"`num_frames` is {num_frames}; a clip has at least two frames")
    if known.frames.ndim != 5:
        raise InputError(f"known frames of shape {known.frames.shape}; they must be [b, n, h, w, c]")
    check_times(known.times, known.frames.shape[1], num_frames)


def first_and_last(known: KnownFrames, num_frames: int) -> tuple[Frames, Frames]:
    """The first and last frames [b, h, w, c], for methods that accept no others.

    Raises:
        InputError: frames at other times are known.
    """
    check_known(known, num_frames)
    check_ends(known.times, num_frames)
    return known.frames[:, 0], known.frames[:, 1]


def check_length(completer: Completer, num_frames: int) -> None:
    """Raise an `InputError` unless the completer generates clips of `num_frames` frames."""
    if completer.num_frames not in (None, num_frames):
        raise InputError(
            f"`num_frames` is {num_frames}, but {completer.frame_format.needed_by} generates clips of "
            f"{completer.num_frames}; give `num_frames`={completer.num_frames}"
        )
