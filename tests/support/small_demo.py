"""The demo with small networks, all else as users run it: `python -m tests.support.small_demo --output=DIR`."""

import dataclasses
import runpy

from experiments import demo_plan
from experiments.configs import small_fomm
from experiments.demo_plan import DemoConfig, Plan, plan
from experiments.optimizers import OptimizerConfig
from vidcomp_jax.fomm.losses import FOMMLossConfig


def small(config: DemoConfig) -> Plan:
    """The settings of the demo for networks that compile and train in a fraction of the time."""
    settings = plan(config)
    fomm = small_fomm(width=8, num_keypoints=10)
    fomm = dataclasses.replace(
        fomm,
        detector=dataclasses.replace(fomm.detector, num_blocks=3),
        dense_motion=dataclasses.replace(fomm.dense_motion, num_blocks=3),
        generator=dataclasses.replace(fomm.generator, num_bottleneck_blocks=1),
    )
    return settings._replace(
        fomm=dataclasses.replace(
            settings.fomm,
            fomm=fomm,
            loss=FOMMLossConfig(scales=(1.0, 0.5), generator_gan=0.0, feature_matching=(10.0, 10.0, 10.0)),
            optimizer=OptimizerConfig.same(learning_rate=2e-3, cosine_steps=settings.fomm.train.num_steps),
        ),
        flow=dataclasses.replace(
            settings.flow,
            flow=dataclasses.replace(settings.flow.flow, width=16, num_layers=1, num_heads=2, feed_forward=32),
        ),
        wgan=dataclasses.replace(
            settings.wgan,
            wgan=dataclasses.replace(settings.wgan.wgan, hidden=8, num_critic_updates=1, rounds_per_step=1),
        ),
        autoregressive=dataclasses.replace(
            settings.autoregressive,
            autoregressive=dataclasses.replace(settings.autoregressive.autoregressive, hidden=8),
        ),
        inbetween=dataclasses.replace(
            settings.inbetween, inbetween=dataclasses.replace(settings.inbetween.inbetween, width=4)
        ),
    )


if __name__ == "__main__":
    demo_plan.plan = small
    runpy.run_module("experiments.demo", run_name="__main__")
