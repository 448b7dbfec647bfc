"""The commands from frames to trained motion models, on tiny clips, and a folder of what they write."""

from pathlib import Path

from flax import nnx

from experiments import complete, extract_motion, train_autoregressive, train_flow, train_motion_gan
from experiments.commands import parse
from tests.support.tiny_fomm import tiny
from vidcomp_jax.fomm.loading import save_fomm
from vidcomp_jax.fomm.model import FirstOrderMotionModel

DATA = ["--dataset=synthetic", "--size=32", "--synthetic.num-train=4", "--synthetic.num-test=2", "--synthetic.length=6"]


def extract(*arguments):
    extract_motion.main(
        parse(extract_motion.ExtractMotionConfig, [*DATA, *map(str, arguments)], extract_motion.PRESETS)
    )


def train(module, *arguments):
    kinds = {
        train_motion_gan: train_motion_gan.TrainMotionGANConfig,
        train_autoregressive: train_autoregressive.TrainAutoregressiveConfig,
        train_flow: train_flow.TrainFlowConfig,
    }
    every = ["--num-frames=5", "--num-steps=2", "--batch-size=2", "--log-every=1"]
    assert module.main(parse(kinds[module], [*every, *map(str, arguments)], module.PRESETS, "--preset")) == 0


def run_complete(*arguments):
    complete.main(parse(complete.CompleteConfig, [*DATA, *map(str, arguments)], complete.PRESETS))


OPTIONS = {
    "gan": (train_motion_gan, "--wgan.hidden=4", "--wgan.noise=2", "--wgan.rounds-per-step=1"),
    "next": (train_autoregressive, "--autoregressive.hidden=4"),
    "flow": (train_flow, "--flow.width=8", "--flow.num-layers=1", "--flow.num-heads=2", "--flow.feed-forward=8"),
}
"""The command that trains each run, and its options."""


def make_runs(folder: Path, *names: str) -> Path:
    """Write a keypoint model, motion of both splits, and the named training runs to a folder; return the folder."""
    save_fomm(folder / "fomm", FirstOrderMotionModel(tiny().fomm, rngs=nnx.Rngs(0)))
    for split in ("train", "test"):
        extract(f"--fomm={folder / 'fomm'}", f"--split={split}", f"--output={folder / split}.npz", "--chunk=12")
    files = (f"--motion={folder / 'train.npz'}", f"--validation={folder / 'test.npz'}")
    for name in names:
        module, *options = OPTIONS[name]
        model = [f"--fomm={folder / 'fomm'}"] if name == "gan" else []
        train(module, *files, *model, f"--workdir={folder / name}", *options)
    return folder
