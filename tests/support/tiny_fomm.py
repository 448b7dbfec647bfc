"""A configuration of the First Order Motion Model that trains in seconds."""

import dataclasses

from experiments.configs import FOMMTrainOptions, TrainFOMMConfig, small_fomm, synthetic
from experiments.optimizers import OptimizerConfig
from experiments.options import DataOptions
from vidcomp_jax.data import SyntheticConfig
from vidcomp_jax.fomm.dense_motion import DenseMotionConfig
from vidcomp_jax.fomm.generator import GeneratorConfig
from vidcomp_jax.fomm.keypoints import KeypointDetectorConfig
from vidcomp_jax.fomm.losses import FOMMLossConfig


def tiny(**changes) -> TrainFOMMConfig:
    """A configuration of 32-pixel frames and a few channels, changed as given.

    Tests that train with it unchanged share one compiled step: most of what they cost is its compilation.
    """
    config = dataclasses.replace(
        synthetic(20),
        data=DataOptions(name="synthetic", size=32, synthetic=SyntheticConfig(num_train=8, num_test=4, length=4)),
        fomm=dataclasses.replace(
            small_fomm(width=4, num_keypoints=3),
            detector=KeypointDetectorConfig(width=4, max_width=8, num_blocks=2, scale=0.5),
            dense_motion=DenseMotionConfig(width=4, max_width=8, num_blocks=2, scale=0.5),
            generator=GeneratorConfig(width=4, max_width=32, num_bottleneck_blocks=1),
        ),
        loss=FOMMLossConfig(scales=(1.0, 0.5), generator_gan=0.0),
        optimizer=OptimizerConfig.same(learning_rate=5e-3),
        train=FOMMTrainOptions(
            num_steps=20, batch_size=4, log_every=1, panel_every=None, evaluate_every=None, checkpoint_every=10
        ),
    )
    return dataclasses.replace(config, **changes)
