"""Protocols: which frames of which clips are given and scored, and how. Every choice that changes a number is here.

`PROTOCOLS` holds those of two papers, as their published code has them:

- `magvit-fi`, frame interpolation of MAGVIT (Yu et al., 2023): BAIR at 64 pixels, camera aux1, 16 frames of which the
  first and the last are given, the 256 test trajectories, Fréchet video distance with the Kinetics-400 logits of I3D.
- `mcvd-kth`, interpolation of MCVD (Voleti et al., 2022): KTH at 64 pixels in gray, persons 1-20 for training and
  21-25 for testing, ten past and five future frames given and the ten between them scored, ten samples, each metric's
  own best sample.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from vidcomp_jax.data.clips import Split
from vidcomp_jax.errors import InputError, require, require_at_least, require_one_of
from vidcomp_jax.motion.known import check_times

BestBy = Literal["psnr", "ssim", "l1", "lpips", "each"]
"""How the best of several samples of a clip is chosen: by one metric for all, or by `each` metric for itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is given to a method and how its clips are scored."""

    name: str = ""
    """Name in `PROTOCOLS`; empty for choices of one's own."""
    split: Split = "test"
    """Split of the data set that clips come from."""
    num_clips: int = 0
    """Number of clips, spread evenly over those that are long enough; 0 means all."""
    num_frames: int = 16
    """Number of frames of each clip, the given ones included; a longer clip is cut to its first frames."""
    past: int = 1
    """Number of given frames at the start."""
    future: int = 1
    """Number of given frames at the end. The frames between past and future are scored."""
    times: tuple[int, ...] = ()
    """Numbers of the given frames, in place of past and future; all others are scored."""
    samples: int = 3
    """Number of samples of each clip from a stochastic method; the others generate one."""
    best_by: BestBy = "psnr"
    """How the best sample of a clip is chosen."""
    psnr: Literal["frames", "clip"] = "frames"
    """frames: the mean of the PSNR of each frame. clip: the PSNR of the mean square error over all scored frames."""
    eight_bit_gray: bool = False
    """Compute SSIM and LPIPS on 8-bit frames (values are cut off, not rounded), SSIM in gray."""
    lpips_size: int = 0
    """Height and width that frames are resized to for LPIPS; 0 leaves them as they are."""

    def __post_init__(self):
        require_at_least(self, num_clips=0, past=1, future=1, samples=1, lpips_size=0)
        require_one_of(self, best_by=("psnr", "ssim", "l1", "lpips", "each"), psnr=("frames", "clip"))
        least = self.past + self.future + 1
        require(self.num_frames >= least, self, "num_frames", f"at least {least}, so that a frame is left to score")
        check_times(self.known, len(self.known), self.num_frames)
        require(self.gap, self, "times", "fewer than all frames, so that a frame is left to score")

    @property
    def gap(self) -> tuple[int, ...]:
        """Indices of the scored frames."""
        return tuple(i for i in range(self.num_frames) if i not in self.known)

    @property
    def known(self) -> tuple[int, ...]:
        """Indices of the given frames."""
        return self.times or (*range(self.past), *range(self.num_frames - self.future, self.num_frames))

    @property
    def window(self) -> range:
        """The scored frames with one given frame on both sides, which is what methods that take two frames see.

        With `times`, the whole clip.
        """
        return range(self.num_frames) if self.times else range(self.past - 1, self.num_frames - self.future + 1)

    @property
    def gap_in_window(self) -> list[int]:
        """Indices of the scored frames, counted from the first frame of the window."""
        return [i - self.window.start for i in self.gap]


PROTOCOLS: Mapping[str, Protocol] = {
    "magvit-fi": Protocol(name="magvit-fi", num_clips=256, num_frames=16, samples=1),
    "mcvd-kth": Protocol(
        name="mcvd-kth",
        num_clips=256,
        num_frames=25,
        past=10,
        future=5,
        samples=10,
        best_by="each",
        psnr="clip",
        eight_bit_gray=True,
        lpips_size=128,
    ),
}
"""Protocols of papers, by name."""

DATA: Mapping[str, Mapping[str, Any]] = {
    "magvit-fi": {"name": "bair", "size": 64, "num_channels": 3, "bair.camera": "aux1"},
    "mcvd-kth": {"name": "kth", "size": 64, "num_channels": 1, "kth.split": "mcvd", "kth.num_frames": 25},
}
"""Data settings that each of these protocols fixes, by the dotted names of the fields of `DataConfig`."""


def fixed(config: Any, values: Mapping[str, Any], defaults: Any, protocol: str) -> Any:
    """A copy of a dataclass with the values that a protocol fixes.

    Args:
        config: the settings of the user.
        values: fixed values by the dotted names of their fields.
        defaults: settings with the defaults; what differs from them was chosen by the user.
        protocol: name of the protocol, for the message.

    Raises:
        InputError: the user chose another value than the fixed one.
    """
    for name, value in values.items():
        field, _, inner = name.partition(".")
        chosen, default = getattr(config, field), getattr(defaults, field)
        if inner:
            value = _fixed_inner(chosen, inner, value, default, protocol, name)
        else:
            _check(chosen, default, value, protocol, name)
        config = dataclasses.replace(config, **{field: value})
    return config


def _fixed_inner(chosen: Any, inner: str, value: Any, default: Any, protocol: str, name: str) -> Any:
    _check(getattr(chosen, inner), getattr(default, inner), value, protocol, name)
    return dataclasses.replace(chosen, **{inner: value})


def _check(chosen: Any, default: Any, value: Any, protocol: str, name: str) -> None:
    if chosen not in (default, value):
        raise InputError(f"`{name}` is {chosen}, but protocol {protocol} fixes {value}; leave it out")
