"""Clips drawn on the spot, with the true positions of all joints: walking figures and a robot arm."""

from vidcomp_jax.data.synthetic.clips import SYNTHETIC, SyntheticClips, SyntheticConfig

__all__ = ["SYNTHETIC", "SyntheticClips", "SyntheticConfig"]
