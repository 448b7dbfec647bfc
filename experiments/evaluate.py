"""Evaluate methods: `python -m experiments.evaluate --fomm=RUN --method linear wgan --motion-model=RUN --output=OUT`.

Completes held-out clips with every method, scores the frames between the given ones, and writes the table of a paper
(`table.txt`, `table.md`, `table.tex`), `metrics.json`, `metrics.csv`, plots, and `report.html`, which plays clips of
all methods. The rows repeat, blend and, for methods over keypoints, true keypoints are added. The same command after an
interruption goes on from the clips that are scored. `--protocol` fixes every choice as a paper has it.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from experiments.commands import run
from experiments.configs import CONFIGS, Preset
from experiments.options import DataOptions, frame_numbers
from vidcomp_jax.completion.completers import Completer
from vidcomp_jax.completion.frame_formats import frames_for
from vidcomp_jax.completion.methods import METHODS, MethodSettings, Models, default_methods, open_completers
from vidcomp_jax.data import Clips, DataConfig, SyntheticClips, open_clips
from vidcomp_jax.errors import InputError, require, require_at_least
from vidcomp_jax.evaluation.batches import Instruments
from vidcomp_jax.evaluation.evaluate import (
    Choices,
    check_frames,
    check_video_distance,
    checksums,
    choose_clips,
    digest_of_names,
    score_clips,
    write_results,
)
from vidcomp_jax.evaluation.inputs import VideoClips
from vidcomp_jax.evaluation.joints import JointFit, fit_joints
from vidcomp_jax.evaluation.lpips import load_lpips
from vidcomp_jax.evaluation.protocols import DATA, PROTOCOLS, BestBy, Protocol, fixed
from vidcomp_jax.evaluation.records import check_folder, open_records
from vidcomp_jax.evaluation.report import REPORT
from vidcomp_jax.evaluation.table import to_text
from vidcomp_jax.evaluation.video_features import open_i3d
from vidcomp_jax.fomm.loading import check_trained_data
from vidcomp_jax.fomm.model import FirstOrderMotionModel

BASELINES = ("repeat", "blend")

if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[tuple(METHODS)]  # the choices that the command line offers


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(MethodSettings):
    """Score methods of completion on held-out clips."""

    method: tuple[Method, ...] = ()
    """Methods to evaluate; repeat and blend are added. By default flow, if --motion-model holds a run of it, and linear
    otherwise."""
    input: tuple[Path, ...] = ()
    """Videos, or folders of videos, to evaluate on; by default, the test split of --dataset."""
    known: str = ""
    """Numbers of the given frames in the clip, such as 0,7,15; by default, the first and the last."""
    dataset: Preset = "synthetic"
    protocol: Literal["", "magvit-fi", "mcvd-kth"] = ""
    """Protocol of a paper, which fixes every choice; empty for your own choices."""
    output: Path = Path("evaluation")
    """Folder to write, or to go on with."""
    overwrite: bool = False
    """Replace an evaluation that is there."""
    any_data: bool = False
    """Allow data settings that differ from those the keypoint model was trained with."""
    max_clips: int = 0
    """Number of clips, spread evenly over the test split; 0 means 256, or those of the protocol."""
    num_frames: int = 0
    """Number of frames of each clip, including both ends; 0 means 16, or that of the protocol."""
    samples: int = 0
    """Number of samples per clip, for stochastic methods; 0 means 3, or that of the protocol."""
    best_by: BestBy | Literal[""] = ""
    """Metric that the best sample of a clip is chosen by, or each: every metric's own best. By default psnr, or that of
    the protocol."""
    lpips: Path | None = None
    """Weights of LPIPS from converters.convert_lpips."""
    i3d: str = ""
    """I3D network for the Fréchet video distance: a SavedModel folder, a handle such as deepmind/i3d-kinetics-400/1, or
    a TorchScript file."""
    batch_size: int = 8
    """Number of clips completed at a time."""
    report_clips: int = 4
    """Number of clips that the report plays."""
    seed: int = 0
    """Seed of the random samples."""
    resize: int = 0
    """With --input: crop frames to the centered square and resize it to this many pixels; 0 leaves frames as they
    are."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    """Without --input: where clips come from. Without a method over keypoints, --size also sets the size of frames."""

    def __post_init__(self):
        super().__post_init__()
        require_at_least(self, max_clips=0, num_frames=0, samples=0, batch_size=1, report_clips=0, seed=0, resize=0)
        require(not (self.protocol and self.input), self, "input", f"left out: protocol {self.protocol} has its data")
        require(self.input or not self.resize, self, "resize", "given with `input`; for a data set, give `size`")
        by_lpips = self.best_by == "lpips" and self.lpips is None
        require(not by_lpips, self, "best_by", "another metric, because `lpips` is not given")


def main(config: EvaluateConfig) -> None:
    """Score the clips that are not scored yet, write the results, and print the table."""
    check_folder(config.output, overwrite=config.overwrite)
    protocol, data = plan(config)
    methods = tuple(dict.fromkeys((*(config.method or default_methods(config)), *BASELINES)))
    models = Models(config)
    completers = open_completers(methods, config, len(protocol.window), models, known=protocol.times)
    formats = [completer.frame_format for completer in completers.values()]
    over_keypoints = any(completer.over_keypoints for completer in completers.values())
    default_size = PRESETS.get(config.dataset, config).data.size
    data = frames_for(formats, data, default_size=default_size, from_files=bool(config.input))
    clips: Clips
    if config.input:
        clips = VideoClips(
            config.input, protocol.num_frames, num_channels=data.num_channels, size=config.resize or None
        )
    else:
        if over_keypoints:
            check_trained_data(config.fomm, data, any_data=config.any_data)
        clips = open_clips(data, protocol.split)
    check_frames(formats, clips.frame_shape, setting="resize" if config.input else "size")
    chosen = choose_clips(clips, protocol)
    names = [str(clips.names[clip]) for clip in chosen]
    lpips = load_lpips(config.lpips) if config.lpips is not None else None
    i3d = open_i3d(config.i3d) if config.i3d else None
    if i3d is not None:
        check_video_distance(len(chosen), protocol)
    choices = Choices(
        methods=methods,
        protocol=protocol,
        data=data_settings(config, data),
        render=config.render,
        frame_shape=clips.frame_shape,
        num_clips=len(chosen),
        clips=digest_of_names(names),
        batch_size=min(config.batch_size, len(chosen)),
        seed=config.seed,
        report_clips=config.report_clips,
        weights=weights(config, completers, lpips, i3d),
        video_resizing="" if i3d is None else i3d.resizing,
        precision=config.precision,
    )
    model = models.keypoint_model if over_keypoints else None
    tools = Instruments(
        completers,
        protocol,
        keypoint_model=model,
        render=config.render,
        max_pixels=config.max_pixels,
        joints=None if model is None or config.input else joints_of(data, model),
        lpips=lpips,
        i3d=i3d,
        seed=config.seed,
    )
    records = open_records(config.output, choices, overwrite=config.overwrite)
    num_batches = score_clips(records, clips, chosen, tools, choices)
    runs = {"fomm": config.fomm} if over_keypoints else {}
    runs |= {f"motion model {i + 1}": run for i, run in enumerate(config.motion_model)}
    runs |= {} if config.inbetween is None else {"inbetween": config.inbetween}
    table = write_results(config.output, records, num_batches, names, tools, choices, fps=float(clips.fps), runs=runs)
    print(to_text(table))
    print(f"to view clips and curves, open {config.output / REPORT}")


def plan(config: EvaluateConfig) -> tuple[Protocol, DataConfig]:
    """The protocol and the data settings of a configuration; `InputError` if it contradicts the protocol it names."""
    times = frame_numbers(config, "known")
    if not config.protocol:
        try:
            protocol = Protocol(
                num_clips=config.max_clips or 256,
                num_frames=config.num_frames or 16,
                times=() if times == (0, (config.num_frames or 16) - 1) else times,
                samples=config.samples or 3,
                best_by=config.best_by or "psnr",
            )
        except InputError as error:
            raise InputError(str(error).replace("`times`", "`known`")) from None
        return protocol, config.data
    require(not times, config, "known", f"left out: protocol {config.protocol} fixes the given frames")
    protocol = PROTOCOLS[config.protocol]
    values = {name: getattr(protocol, name) for name in ("num_frames", "samples", "best_by")}
    fixed(config, {"max_clips": protocol.num_clips, **values}, EvaluateConfig(), config.protocol)
    defaults = PRESETS.get(config.dataset, config).data
    return protocol, fixed(config.data, DATA[config.protocol], defaults, config.protocol)


def data_settings(config: EvaluateConfig, data: DataConfig) -> dict[str, Any]:
    """The settings of the clips that change a number."""
    if config.input:
        return {"input": "videos", "num_channels": data.num_channels, "resize": config.resize}
    settings = {name: x for name, x in dataclasses.asdict(data).items() if name not in ("data_dir", "cache_dir")}
    del settings["kth"]["train_windows"]
    return settings


def joints_of(data: DataConfig, model: FirstOrderMotionModel) -> JointFit | None:
    """The function from keypoints to joints, fitted on the training clips; None for data without known joints."""
    train = open_clips(data, "train") if data.kind == "synthetic" else None
    return fit_joints(model.detect, train) if isinstance(train, SyntheticClips) else None


def weights(config: EvaluateConfig, completers: dict[str, Completer], lpips, i3d) -> dict[str, str]:
    """Checksums of all weights."""
    found = checksums(config, completers)
    return found | {name: tool.checksum for name, tool in {"lpips": lpips, "i3d": i3d}.items() if tool is not None}


PRESETS = {
    name: EvaluateConfig(dataset=name, data=config.data)
    for name, config in sorted(CONFIGS.items(), key=lambda item: item[0] != "synthetic")
}

if __name__ == "__main__":
    run(main, EvaluateConfig, PRESETS)
