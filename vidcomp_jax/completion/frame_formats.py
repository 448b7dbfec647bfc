"""Chooses data settings whose frames suit every method, and checks the size of given frames."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, cast

from vidcomp_jax.completion.completers import FrameFormat
from vidcomp_jax.data import DataConfig
from vidcomp_jax.errors import InputError


def frames_for(
    formats: Sequence[FrameFormat], data: DataConfig, *, default_size: int, from_files: bool = False
) -> DataConfig:
    """Choose data settings whose frames all methods accept.

    With a keypoint model, which accepts any size, the settings of a data set stay as they are, and the user's own files
    are read with the model's channels. Without one, the methods over pixels determine size and channels. Methods that
    accept any frames have no say.

    Args:
        formats: the frames that each method accepts.
        data: settings of the data that clips come from.
        default_size: default of `data.size`; any other value was requested by the user.
        from_files: whether clips are the user's own files, which can be read in gray or RGB.

    Raises:
        InputError: methods need different numbers of channels, or a method needs another size than the requested one.
    """
    formats = [f for f in formats if f.size is not None or f.num_channels is not None] or formats
    channels = {f.num_channels: f.needed_by for f in formats if f.num_channels is not None}
    if len(channels) > 1:
        (one, needs_one), (other, needs_other) = list(channels.items())[:2]
        raise InputError(
            f"frames of {one} channels for {needs_one}, of {other} for {needs_other}; complete with one of them at a "
            "time"
        )
    # `DataConfig` itself rejects other numbers of channels.
    num_channels = cast(Literal[1, 3], next(iter(channels), 3 if from_files else data.num_channels))
    strictest = next((f for f in formats if not f.resizes), formats[0])
    if strictest.size is None or any(f.size is None for f in formats):
        return dataclasses.replace(data, num_channels=num_channels) if from_files else data
    size = strictest.size if data.size == default_size or not strictest.resizes else data.size
    if not strictest.resizes and data.size not in (size, default_size):
        raise InputError(f"`size` is {data.size}, but {strictest.needed_by} was trained at {size}; leave it out")
    return dataclasses.replace(data, size=size, num_channels=num_channels)


def check_frame_size(formats: Sequence[FrameFormat], height: int, width: int, *, setting: str = "size") -> None:
    """Raise an `InputError` if frames do not have the size that a method was trained at.

    Args:
        formats: the frames that each method accepts.
        height, width: size of the frames in pixels.
        setting: name of the setting that changes the size, for the message.
    """
    for f in formats:
        if f.size is not None and not f.resizes and (height, width) != (f.size, f.size):
            raise InputError(
                f"frames of {width}x{height} pixels, but {f.needed_by} was trained at {f.size}x{f.size}; "
                f"give `{setting}`={f.size}"
            )
