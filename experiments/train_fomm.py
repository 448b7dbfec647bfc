"""Train the First Order Motion Model: `python -m experiments.train_fomm --dataset=kth --data-dir=DIR --workdir=RUN`.

Trains on all visible devices, and writes checkpoints, logs and panels into the run's folder; the same command resumes
an interrupted run. `--dataset` chooses a released configuration, `--config` a YAML file of the published code; every
field of it is an option.
"""

import functools

from flax import nnx

from experiments.commands import run
from experiments.configs import CONFIGS, TrainFOMMConfig
from experiments.official import train_config
from experiments.options import join_hosts
from experiments.resuming import resumed
from vidcomp_jax.data import Clips, as_stored, open_clips, pairs, prepare_pairs
from vidcomp_jax.data.examples import epoch_size
from vidcomp_jax.devices import BatchShare
from vidcomp_jax.fomm.loading import load_fomm_weights
from vidcomp_jax.fomm.losses import TrainingNetworks, fomm_objective
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.fomm.perceptual import load_vgg19
from vidcomp_jax.fomm.reconstruction import reconstruction_error, reconstruction_panel
from vidcomp_jax.nn.precision import in_precision
from vidcomp_jax.nn.remat import recomputed
from vidcomp_jax.storage.steps import CHECKPOINTS, latest_step
from vidcomp_jax.training.loop import check_batch_size, check_weights, fit
from vidcomp_jax.training.preparation import Preparation, prepared
from vidcomp_jax.training.run_folder import check_workdir


def main(config: TrainFOMMConfig) -> int:
    """Join the other hosts, if there are any, and train."""
    join_hosts(config.coordinator, config.num_processes, config.process_id)
    return train(config)


def train(config: TrainFOMMConfig) -> int:
    """Train, and return the exit code, which is not 0 if a signal stopped the run."""
    check_workdir(config.workdir)
    config = resumed(config)
    check_batch_size(config.train.batch_size, accumulate=config.train.accumulate)
    train_clips, test_clips = open_clips(as_stored(config.data), "train"), open_clips(config.data, "test")
    config = config.in_steps(epoch_size(train_clips))
    check_weights(lambda: FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(0)))
    model = FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(config.train.seed))
    new = latest_step(config.workdir / CHECKPOINTS) is None
    if new and config.init_from is not None:
        whole = load_fomm_weights(model, config.init_from, any_discriminator=True)
        if not whole:
            print(f"{config.init_from}: has no discriminator of these sizes; a new one starts from random weights")
    vgg = None
    if config.perceptual_weights is not None:
        vgg = load_vgg19(config.perceptual_weights)
    else:
        print(
            "no VGG19 weights given: a multi-scale L1 and gradient difference loss replaces the perceptual loss; to "
            "use it, convert torchvision's weights with `python -m converters.convert_vgg19 vgg19.pth --output=FILE` "
            "and pass --perceptual-weights=FILE",
            flush=True,
        )

    networks = in_precision(TrainingNetworks(model, config.loss, vgg), config.precision)
    if config.remat:
        networks = recomputed(networks)
    result = fit(
        networks,
        tx=config.optimizer.build(),
        objective=prepared(fomm_objective, _preparation(config)),
        batches=functools.partial(_batches, config, train_clips),
        config=config.train,
        workdir=config.workdir,
        run_config=config,
        panels=lambda networks: reconstruction_panel(networks.model, test_clips, config=config.panel),
        evaluate=lambda networks: {"l1": reconstruction_error(networks.model, test_clips)},
        best="l1",
    )
    return result.exit_code


def _batches(config: TrainFOMMConfig, clips: Clips, share: BatchShare):
    return pairs(
        clips,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        equal_frames=config.augmentation.equal_frames,
        pairs_per_clip=config.data.pairs_per_record,
        share=share,
        workers=config.workers,
    )


def _preparation(config: TrainFOMMConfig) -> Preparation:
    return functools.partial(
        prepare_pairs,
        augmentation=config.augmentation,
        size=config.data.size,
        num_channels=config.data.num_channels,
    )


if __name__ == "__main__":
    run(main, TrainFOMMConfig, CONFIGS, preset_file=train_config)
