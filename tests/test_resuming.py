"""Runs of earlier versions, whose configurations lack settings, go on as they were begun."""

import dataclasses
import functools
import json

import pytest

from experiments import train_inbetween
from experiments.configs import CONFIGS, FOMMTrainOptions, TrainFOMMConfig
from experiments.optimizers import OptimizerConfig
from experiments.resuming import resumed, windows_as_begun
from experiments.schedule import ScheduleConfig
from vidcomp_jax.data import AugmentationConfig, KthConfig
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.panels import PanelConfig
from vidcomp_jax.storage.config import CONFIG_FILE, claim_workdir, load_config, save_config

ADDED = {
    "": ("config", "schedule", "panel", "augmented_in_step"),
    "data.kth": ("cut", "train_windows"),
    "augmentation": ("exclusive_flips", "equal_frames", "rotation", "resize", "interpolation", "crop"),
}


@pytest.fixture
def workdir(tmp_path):
    """A run of KTH that version 0.1.0 began."""
    old = dataclasses.replace(
        CONFIGS["kth"],
        workdir=tmp_path,
        augmentation=AugmentationConfig(),
        optimizer=OptimizerConfig.same(milestones=(13788, 20682)),
        train=FOMMTrainOptions(num_steps=22980, batch_size=50, log_every=100, panel_every=2000, evaluate_every=2000),
        schedule=ScheduleConfig(),
        panel=PanelConfig(),
    )
    path = tmp_path / CONFIG_FILE
    save_config(path, old)
    stored = json.loads(path.read_text())
    for section, names in ADDED.items():
        part = functools.reduce(dict.__getitem__, section.split(".") if section else (), stored)
        for name in names:
            del part[name]
    path.write_text(json.dumps(stored))
    (tmp_path / "checkpoints" / "2000").mkdir(parents=True)
    return tmp_path


def test_the_same_command_goes_on_with_an_old_run_again_and_again(workdir, capsys):
    for _ in range(2):
        config = resumed(dataclasses.replace(CONFIGS["kth"], workdir=workdir)).in_steps(383)
        claim_workdir(workdir, config)
        assert "an earlier version" in capsys.readouterr().out
        assert config.train.num_steps == 22980 and config.train.checkpoint_every == 1000
        assert {adam.milestones for adam in config.optimizer.networks} == {(13788, 20682)}
        assert config.augmentation == AugmentationConfig()
        assert load_config(workdir / CONFIG_FILE, TrainFOMMConfig).fomm == config.fomm
    longer = dataclasses.replace(CONFIGS["kth"].train, num_steps=30000)
    longer = resumed(dataclasses.replace(CONFIGS["kth"], workdir=workdir, train=longer)).in_steps(383)
    assert longer.train.num_steps == 30000


def test_an_old_run_goes_on_with_its_training_windows_and_says_so(workdir, capsys):
    for _ in range(2):
        config = resumed(dataclasses.replace(CONFIGS["kth"], workdir=workdir)).in_steps(383)
        claim_workdir(workdir, config)
        assert config.data.kth == KthConfig()
        said = f"{workdir}: an earlier version began this run; its training windows start where they did, --kth.train-w"
        assert said in capsys.readouterr().out


def test_in_betweening_goes_on_with_its_training_windows(tmp_path, capsys):
    new = dataclasses.replace(train_inbetween.CONFIGS["kth"], workdir=tmp_path)
    old = dataclasses.replace(new, data=dataclasses.replace(new.data, kth=KthConfig()))
    path = tmp_path / CONFIG_FILE
    save_config(path, old)
    assert windows_as_begun(new) == new  # nothing is trained yet
    (tmp_path / "checkpoints" / "2000").mkdir(parents=True)
    assert windows_as_begun(old) == old
    stored = json.loads(path.read_text())
    del stored["data"]["kth"]["train_windows"]
    path.write_text(json.dumps(stored))
    assert capsys.readouterr().out == ""
    assert windows_as_begun(new) == old
    assert capsys.readouterr().out.endswith("--kth.train-windows=fixed\n")
    claim_workdir(tmp_path, windows_as_begun(new))
    save_config(path, new)
    assert windows_as_begun(new) == new


def test_other_settings_are_still_refused(workdir):
    config = dataclasses.replace(CONFIGS["kth"], workdir=workdir, loss=CONFIGS["bair"].loss)
    with pytest.raises(InputError, match=r"loss\.generator_gan is 0.0 there, 1.0 now"):
        claim_workdir(workdir, resumed(config).in_steps(383))


def test_a_run_of_this_version_keeps_its_schedule(tmp_path, capsys):
    config = resumed(dataclasses.replace(CONFIGS["kth"], workdir=tmp_path))
    claim_workdir(tmp_path, config.in_steps(383))
    (tmp_path / "checkpoints" / "2000").mkdir(parents=True)
    assert resumed(config) == config
    assert capsys.readouterr().out == ""
    with pytest.raises(InputError, match=r"schedule.steps_per_epoch is 229 there, 228 now"):
        claim_workdir(tmp_path, config.in_steps(381))


def test_an_old_run_is_told_once_that_its_random_changes_differ(workdir, capsys):
    said = []
    for _ in range(2):
        config = resumed(dataclasses.replace(CONFIGS["kth"], workdir=workdir)).in_steps(383)
        claim_workdir(workdir, config)
        said.append([line for line in capsys.readouterr().out.splitlines() if "random changes differ" in line])
    assert [len(lines) for lines in said] == [1, 0]
    assert str(workdir) in said[0][0]


def test_settings_that_may_change_are_taken_as_given_for_old_runs_too(workdir):
    shown = PanelConfig(border=True)
    config = resumed(dataclasses.replace(CONFIGS["kth"], workdir=workdir, panel=shown)).in_steps(383)
    assert config.panel == shown
    claim_workdir(workdir, config)
    assert load_config(workdir / CONFIG_FILE, TrainFOMMConfig).panel == shown
