"""Generates the frames between two frames in JAX, over keypoints (First Order Motion Model) or with 3D convolutions.

Importing this package does not initialize devices, read files, set flags or import TensorFlow.
"""

from typing import TYPE_CHECKING

from vidcomp_jax.exports import on_demand

if TYPE_CHECKING:
    from vidcomp_jax.completion.complete import complete, complete_known
    from vidcomp_jax.completion.completers import Completion
    from vidcomp_jax.devices import AXIS
    from vidcomp_jax.errors import InputError
    from vidcomp_jax.fomm.dense_motion import DenseMotion, DenseMotionConfig, Motion
    from vidcomp_jax.fomm.discriminator import DiscriminatorConfig, MultiScaleDiscriminator
    from vidcomp_jax.fomm.generator import GeneratorConfig, OcclusionAwareGenerator
    from vidcomp_jax.fomm.keypoints import KeypointDetector, KeypointDetectorConfig, Keypoints
    from vidcomp_jax.fomm.loading import load_fomm, save_fomm
    from vidcomp_jax.fomm.model import (
        EncodedSource,
        FirstOrderMotionModel,
        FOMMConfig,
        Rendered,
        movement_scale,
        transfer_motion,
    )

__all__ = [
    "AXIS",
    "Completion",
    "DenseMotion",
    "DenseMotionConfig",
    "DiscriminatorConfig",
    "EncodedSource",
    "FOMMConfig",
    "FirstOrderMotionModel",
    "GeneratorConfig",
    "InputError",
    "KeypointDetector",
    "KeypointDetectorConfig",
    "Keypoints",
    "Motion",
    "MultiScaleDiscriminator",
    "OcclusionAwareGenerator",
    "Rendered",
    "complete",
    "complete_known",
    "load_fomm",
    "movement_scale",
    "save_fomm",
    "transfer_motion",
]

__getattr__, __dir__ = on_demand(
    __name__,
    {
        "completion.complete": ("complete", "complete_known"),
        "completion.completers": ("Completion",),
        "devices": ("AXIS",),
        "errors": ("InputError",),
        "fomm.dense_motion": ("DenseMotion", "DenseMotionConfig", "Motion"),
        "fomm.discriminator": ("DiscriminatorConfig", "MultiScaleDiscriminator"),
        "fomm.generator": ("GeneratorConfig", "OcclusionAwareGenerator"),
        "fomm.keypoints": ("KeypointDetector", "KeypointDetectorConfig", "Keypoints"),
        "fomm.loading": ("load_fomm", "save_fomm"),
        "fomm.model": (
            "EncodedSource",
            "FOMMConfig",
            "FirstOrderMotionModel",
            "Rendered",
            "movement_scale",
            "transfer_motion",
        ),
    },
)
