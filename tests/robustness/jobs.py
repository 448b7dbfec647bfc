"""The commands that `make torture` kills, small enough to take seconds."""

from typing import NamedTuple


class Job(NamedTuple):
    """A command to kill.

    Attributes:
        module: the command.
        arguments: of it; `{out}` stands for its output, and `{base}` for the folder of its inputs.
        output: name of its output in a folder of its own.
        resumes: whether its output is there while it runs, and the same command goes on with it.
    """

    module: str
    arguments: tuple[str, ...]
    output: str
    resumes: bool = False


_DATA = (
    "--dataset=synthetic",
    "--size=32",
    "--synthetic.num-train=8",
    "--synthetic.num-test=4",
    "--synthetic.length=6",
)
_SMALL = (
    *(
        "--fomm.num-keypoints=3",
        "--fomm.detector.width=4",
        "--fomm.detector.max-width=8",
        "--fomm.detector.num-blocks=2",
    ),
    *("--fomm.dense-motion.width=4", "--fomm.dense-motion.max-width=8", "--fomm.dense-motion.num-blocks=2"),
    *("--fomm.generator.width=4", "--fomm.generator.max-width=16", "--fomm.generator.num-bottleneck-blocks=1"),
    "--fomm.generator.no-full-resolution-skip",  # the published code has none, and could not read the export
)
_OFTEN = ("--checkpoint-every=3", "--evaluate-every=6", "--panel-every=6", "--log-every=1")
_MOTION = ("--motion={base}/motion.npz", "--validation={base}/test.npz", "--num-frames=4", "--batch-size=4", *_OFTEN)
JOBS: dict[str, Job] = {
    "fomm": Job(
        "experiments.train_fomm",
        (*_DATA, *_SMALL, "--workdir={out}", "--num-steps=24", "--batch-size=4", *_OFTEN),
        "run",
        True,
    ),
    "gan": Job(
        "experiments.train_motion_gan",
        (*_MOTION, "--workdir={out}", "--num-steps=24", "--wgan.hidden=4", "--wgan.noise=2"),
        "run",
        True,
    ),
    "autoregressive": Job(
        "experiments.train_autoregressive",
        (*_MOTION, "--workdir={out}", "--num-steps=24", "--autoregressive.hidden=4"),
        "run",
        True,
    ),
    "flow": Job(
        "experiments.train_flow",
        (*_MOTION, "--workdir={out}", "--num-steps=24", "--flow.width=8", "--flow.num-layers=1", "--flow.num-heads=2"),
        "run",
        True,
    ),
    "inbetween": Job(
        "experiments.train_inbetween",
        (
            *("--dataset=synthetic", "--synthetic.num-train=8", "--synthetic.num-test=4", "--inbetween.width=4"),
            *("--inbetween.num-stages=1", "--inbetween.noise-size=4", "--workdir={out}", "--num-steps=12"),
            *("--batch-size=2", "--checkpoint-every=3", "--evaluate-every=6", "--panel-every=6", "--log-every=1"),
        ),
        "run",
        True,
    ),
    "extract": Job("experiments.extract_motion", (*_DATA, "--fomm={base}/fomm", "--output={out}"), "motion.npz"),
    "export": Job("converters.export_fomm", ("{base}/fomm", "--output={out}"), "x.pth.tar"),
    "convert": Job(
        "converters.convert_fomm", ("{base}/x.pth.tar", "--config={base}/x.yaml", "--output={out}"), "model"
    ),
    "prepare": Job(
        "experiments.prepare_kth", ("--input={kth}", "--output={out}", "--size=64", "--split=seed"), "clips"
    ),
    "complete": Job(
        "experiments.complete",
        (*_DATA, "--fomm={base}/fomm", "--method=linear", "--num-frames=6", "--max-clips=4", "--output={out}"),
        "completed",
    ),
    "evaluate": Job(
        "experiments.evaluate",
        (*_DATA, "--fomm={base}/fomm", "--num-frames=6", "--max-clips=4", "--batch-size=1", "--output={out}"),
        "evaluation",
        True,
    ),
}
