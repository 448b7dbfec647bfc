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
    """Data settings with frames as the methods take them.

    Size and channels of a data set are set by the keypoint model that is trained on it, which takes any size; files of
    one's own are read with its channels. Without a keypoint model the methods over pixels say what they need.

    Args:
        formats: what each method takes.
        data: where clips come from.
        default_size: the size that `data` has unless another was asked for.
        from_files: clips are files of one's own, in gray or RGB as it suits.

    Raises:
        InputError: methods take different channels, or a method another size than was asked for.
    """
    channels = {f.num_channels: f.needed_by for f in formats if f.num_channels is not None}
    if len(channels) > 1:
        (one, needs_one), (other, needs_other) = list(channels.items())[:2]
        raise InputError(
            f"frames of {one} channels for {needs_one}, of {other} for {needs_other}; complete with one of them at a "
            "time"
        )
    # `DataConfig` itself refuses numbers of channels that it cannot read.
    num_channels = cast(Literal[1, 3], next(iter(channels), 3 if from_files else data.num_channels))
    strictest = next((f for f in formats if not f.resizes), formats[0])
    if strictest.size is None or any(f.size is None for f in formats):
        return dataclasses.replace(data, num_channels=num_channels) if from_files else data
    size = strictest.size if data.size == default_size or not strictest.resizes else data.size
    if not strictest.resizes and data.size not in (size, default_size):
        raise InputError(f"`size` is {data.size}, but {strictest.needed_by} was trained at {size}; leave it out")
    return dataclasses.replace(data, size=size, num_channels=num_channels)


def check_frame_size(formats: Sequence[FrameFormat], height: int, width: int, *, setting: str = "size") -> None:
    """Raise an `InputError` if frames have not the size that a method was trained at.

    Args:
        formats: what each method takes.
        height, width: of the frames.
        setting: name of the setting that changes their size.
    """
    for f in formats:
        if f.size is not None and not f.resizes and (height, width) != (f.size, f.size):
            raise InputError(
                f"frames of {width}x{height} pixels, but {f.needed_by} was trained at {f.size}x{f.size}; "
                f"give `{setting}`={f.size}"
            )
