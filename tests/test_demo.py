"""The demo from end to end after a short training, interrupted once: its table, its report, and its claims."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from experiments import demo
from experiments.demo_plan import DemoConfig, plan
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import read_image
from vidcomp_jax.media.video import probe

ROOT = pathlib.Path(__file__).parent.parent
KTH_LIKE = ROOT / "tests" / "data" / "kth_like"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The output of the command after an interruption, and its folder.

    The keypoint model trains with XLA's default flags, as for users, and all else with those that compile faster.
    """
    folder = tmp_path_factory.mktemp("demo") / "demo"
    command = [sys.executable, "-m", "tests.support.small_demo", "--fraction=0.05", f"--output={folder}"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("[4/8]"):  # the keypoint model is trained, and the next training begins
            process.send_signal(signal.SIGINT)
            break
    process.communicate()
    assert process.returncode == 130
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, folder


def test_the_model_is_better_than_what_needs_no_model(finished):
    text, _ = finished
    model, source, mean = (
        float(re.search(rf"{name} +L1 ([\d.]+)", text)[1])
        for name in ("this model", "repeating the frame", "the mean image")
    )
    assert model < 0.85 * source < mean
    fitted, fixed = map(float, re.search(r"  mean +([\d.]+) \(([\d.]+)\)", text).groups())
    assert fitted < 0.6 * fixed


def test_every_method_is_in_the_table_and_the_report(finished):
    text, folder = finished
    titles = {"repeat", "blend", "linear", "autoregressive", "true keypoints"}
    titles |= {f"{name}, {which} of 3" for name in ("flow", "wgan", "inbetween") for which in ("mean", "best")}
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text())
    assert {row["title"] for row in metrics["rows"]} == titles
    assert all(re.search(rf"^{title}  ", text, re.MULTILINE) for title in titles)
    assert (folder / "report.html").read_bytes() == (folder / "evaluation" / "report.html").read_bytes()
    assert str(folder / "report.html") in text


def test_the_pictures_play_and_can_be_opened(finished):
    _, folder = finished
    film = probe(folder / demo.GIF)
    assert film.num_frames == 16 and film.width > 4 * 128
    assert read_image(folder / demo.PANEL).shape[1] > 7 * 64


def test_each_stage_tells_its_time_and_a_finished_one_is_not_done_again(finished):
    text, folder = finished
    for number in range(1, 9):
        assert re.search(rf"^\[{number}/8\] .*: (\d+ min \d\d s|\d+ s)$", text, re.MULTILINE)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}
    assert "0 s" in text.split("[3/8]")[2].splitlines()[0]  # the motion was extracted before the interruption
    assert before


@pytest.mark.parametrize(
    "options,message",
    [
        ({"fraction": 0.0}, "`fraction`"),
        ({"fraction": 2.0}, "`fraction` is 2.0"),
        ({"dataset": "kth"}, "`data_dir` is None; it must be a folder with the videos"),
        ({"data_dir": KTH_LIKE}, "`data_dir`.*synthetic clips need no files"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        DemoConfig(**options)


def test_a_folder_with_other_things_or_another_demo_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other things than a demo"):
        demo.claim_folder(tmp_path, DemoConfig(output=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    folder = tmp_path / "demo"
    demo.claim_folder(folder, DemoConfig(output=folder))
    demo.claim_folder(folder, DemoConfig(output=folder))
    with pytest.raises(InputError, match="full is False there, True now"):
        demo.claim_folder(folder, DemoConfig(output=folder, full=True))


def test_every_kind_of_demo_has_its_own_folder_and_a_plan():
    configs = [
        DemoConfig(dataset=dataset, full=full, data_dir=None if dataset == "synthetic" else KTH_LIKE)
        for dataset in ("synthetic", "kth")
        for full in (False, True)
    ]
    assert [str(config.folder) for config in configs] == ["demo", "demo-full", "demo-kth", "demo-kth-full"]
    for config in configs:
        settings = plan(config)
        assert settings.fomm.data.kind == config.dataset == settings.evaluate.dataset
        assert settings.flow.flow.decay_steps == settings.flow.train.num_steps


def test_a_stage_that_is_stopped_ends_the_demo(capsys):
    codes = demo.run_stages([demo.Stage("one", lambda: 0), demo.Stage("two", lambda: 130)])
    assert [next(codes), next(codes)] == [0, 130]
    assert "[2/2] two: stopped after 0 s" in capsys.readouterr().out


def test_durations():
    assert [demo.minutes(x) for x in (3.4, 59.4, 59.6, 187)] == ["3 s", "59 s", "1 min 00 s", "3 min 07 s"]
