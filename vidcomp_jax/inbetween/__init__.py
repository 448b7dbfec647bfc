"""In-betweening by direct 3D convolutions: first and last frame in, clip out, without keypoints.

Trained here (`Inbetween`, `objective`, `optimizer`, then `load_inbetween`) or loaded from TensorFlow Hub (`tfhub`).
"""

from vidcomp_jax.inbetween.generation import InbetweenModel, load_inbetween
from vidcomp_jax.inbetween.losses import Inbetween, InbetweenLossConfig, draw_noise, objective, optimizer
from vidcomp_jax.inbetween.networks import Generator, InbetweenConfig

__all__ = [
    "Generator",
    "Inbetween",
    "InbetweenConfig",
    "InbetweenLossConfig",
    "InbetweenModel",
    "draw_noise",
    "load_inbetween",
    "objective",
    "optimizer",
]
