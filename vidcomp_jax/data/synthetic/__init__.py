"""Draws synthetic clips of walking figures and a robot arm, with the true positions of all joints."""

from vidcomp_jax.data.synthetic.clips import SYNTHETIC, SyntheticClips, SyntheticConfig

__all__ = ["SYNTHETIC", "SyntheticClips", "SyntheticConfig"]
