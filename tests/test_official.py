"""Official YAML files: they give the presets, options override them, and mistakes are one line with file and key."""

import dataclasses
from pathlib import Path

import pytest

from experiments import train_fomm
from experiments.commands import parse
from experiments.configs import CONFIGS, TrainFOMMConfig
from experiments.official import train_config
from experiments.optimizers import AdamConfig
from experiments.schedule import ScheduleConfig
from tests.support.official import NAMES, official, write_official, write_videos
from vidcomp_jax.errors import InputError


def command_line(*arguments):
    return parse(TrainFOMMConfig, list(arguments), CONFIGS, preset_file=train_config)


@pytest.mark.parametrize("name", NAMES)
def test_every_published_file_gives_its_preset(name, tmp_path, capsys):
    found = command_line(f"--config={write_official(tmp_path / f'{name}.yaml', name)}")
    preset = CONFIGS[name.rsplit("-", 1)[0]]
    # The file names a folder of videos, where the presets of KTH and BAIR read these data sets as they are published.
    assert found.data.name == "folder" and found.data.data_dir == Path("data")
    data = dataclasses.replace(found.data, name=preset.data.name, data_dir=None, kth=preset.data.kth)
    assert dataclasses.replace(found, dataset=preset.dataset, config=None, data=data) == preset
    (line,) = capsys.readouterr().out.splitlines()
    assert "not used in training:" in line and line.endswith("reconstruction_params, animate_params")
    assert ("dataset_params.pairs_list" in line) == ("pairs_list" in official(name)["dataset_params"])


def test_options_override_the_file_and_the_other_presets_are_refused(tmp_path):
    path = write_official(tmp_path / "vox.yaml", "vox-adv-256")
    found = command_line(f"--config={path}", "--batch-size=4", "--num-epochs=3", "--data-dir=elsewhere", "--size=64")
    assert (found.train.batch_size, found.schedule.num_epochs, found.data.size) == (4, 3, 64)
    assert found.data.data_dir == Path("elsewhere")
    with pytest.raises(InputError, match=r"--config=.*vox.yaml and --dataset=vox: give one of them"):
        command_line("--config", str(path), "--dataset=vox")


def test_epochs_in_steps():
    # 7 videos x 30 repeats = 210 examples: 5 batches of 40, and 10 examples are left out, in each epoch.
    config = dataclasses.replace(CONFIGS["kth"], train=dataclasses.replace(CONFIGS["kth"].train, batch_size=40))
    found = config.in_steps(7)
    assert (found.train.num_steps, found.train.checkpoint_every, found.train.panel_every) == (500, 15, 5)
    assert {adam.milestones for adam in found.optimizer.networks} == {(300, 450)}
    assert found == found.in_steps(7)
    own = dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=8, checkpoint_every=2))
    assert (own.in_steps(7).train.num_steps, own.in_steps(7).train.checkpoint_every) == (8, 2)
    with pytest.raises(InputError, match=r"`batch_size` is 40; an epoch has 30 examples \(1 training videos x 30\)"):
        config.in_steps(1)


def test_a_milestone_that_is_listed_twice_counts_twice():
    tx = AdamConfig(learning_rate=1.0, milestones=(2, 2, 3)).build()
    state, sizes = tx.init(0.0), []
    for _ in range(4):
        update, state = tx.update(1.0, state)
        sizes.append(float(-update))
    assert sizes == pytest.approx([1, 1, 0.01, 0.001], rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_params__lr_generater": 0.1}, "train_params.lr_generater: unknown key; perhaps lr_generator was meant"),
        ({"train_params__lr_generator": "2e-4"}, r"train_params.lr_generator: expected float, got str .*write 2.0e-4"),
        ({"train_params__num_epochs": 1.5}, "train_params.num_epochs: expected int, got float"),
        ({"train_params__loss_weights": 3}, "train_params.loss_weights: expected keys with values, got int"),
        ({"train_params__loss_weights": {"perceptual": []}}, "train_params.loss_weights.generator_gan: missing"),
        ({"model_params__discriminator_params__sn": "yes"}, "discriminator_params.sn: expected bool, got str"),
        ({"model_params__common_params__num_kp": 0}, "model_params.common_params.num_kp is 0; it must be at least 1"),
        ({"model_params__kp_detector_params__scale_factor": 0.3}, "kp_detector_params.scale_factor is 0.3; it must"),
        ({"dataset_params__frame_shape": [256, 128, 3]}, "frame_shape is .*must be square"),
        ({"dataset_params__frame_shape": [256, 256, 1]}, "must have the same number of channels"),
        ({"train_params__batch_size": 0}, "train_params.batch_size is 0; it must be at least 1"),
        ({"train_params__lr_kp_detector": -1}, "train_params.lr_kp_detector is -1.0; it must be at least 0"),
        ({"train_params__checkpoint_freq": -1}, "train_params.checkpoint_freq is -1; it must be at least 0"),
        (
            {"train_params__loss_weights__feature_matching": [10], "train_params__loss_weights__generator_gan": 1},
            "train_params.loss_weights.feature_matching has 1 weights; give one for each of the .*num_blocks, 4",
        ),
        ({"dataset_params__random_seed": -1}, "dataset_params.random_seed is -1; it must be at least 0"),
        ({"dataset_params__augmentation_params__crop_param": {"size": [8, 4]}}, r"crop_param.size is \[8, 4\]"),
        ({"trian_params": {}}, "trian_params: unknown section; perhaps train_params was meant"),
        ({"visualizer_params__colormap": "mauve"}, "visualizer_params.colormap is 'mauve'"),
    ],
)
def test_mistakes_are_one_line_with_the_file_and_the_key(tmp_path, changes, message):
    path = write_official(tmp_path / "my.yaml", "vox-256", **changes)
    with pytest.raises(InputError, match=message) as error:
        train_config(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value) and "`" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("- 1", "has no entry model_params; an official FOMM configuration was expected"),
        ("model_params: !!python/object/apply:os.mkdir [{made}]", r", line 1: .*python/object.*nothing .* was run"),
        ("model_params: {{}}\nmodel_params: {{}}", "model_params is given twice"),
        ("model_params: {{}}", "model_params.common_params: missing"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, message):
    path, made = tmp_path / "x.yaml", tmp_path / "made"
    path.write_text(text.format(made=made))
    with pytest.raises(InputError, match=message) as error:
        train_config(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    assert not made.exists()


def test_missing_weights_are_those_of_the_published_code(tmp_path):
    changes = {
        "train_params__loss_weights__perceptual": [0, 0],
        "train_params__transform_params": {"sigma_affine": 0.1},
    }
    loss = train_config(write_official(tmp_path / "x.yaml", "kth-128", **changes)).loss
    assert loss.perceptual == (0.0,) * 5 and loss.pyramid == 0
    assert (loss.warp.sigma_affine, loss.warp.sigma_thin_plate) == (0.1, 0.0)


def tiny_file(path, data_dir, **changes):
    """Write a file of tiny networks for gray frames of 32 pixels, in a data set of a few videos."""
    sizes = {"block_expansion": 4, "max_features": 8, "num_blocks": 1}
    motion = {**sizes, "scale_factor": 0.5}
    tiny = {
        "dataset_params__root_dir": str(data_dir),
        "dataset_params__frame_shape": [32, 32, 1],
        "model_params__common_params": {"num_kp": 3, "num_channels": 1, "estimate_jacobian": True},
        "model_params__kp_detector_params": {**motion, "temperature": 0.1},
        "model_params__generator_params": {
            "block_expansion": 4,
            "max_features": 8,
            "num_down_blocks": 1,
            "num_bottleneck_blocks": 1,
            "dense_motion_params": motion,
            "estimate_occlusion_map": True,
        },
        "model_params__discriminator_params": sizes,
        "train_params__batch_size": 4,
        "train_params__num_epochs": 2,
        "train_params__num_repeats": 4,
        "train_params__epoch_milestones": [1],
        "train_params__checkpoint_freq": 1,
        "train_params__scales": [1],
        "train_params__loss_weights__equivariance_value": 0,
        "train_params__loss_weights__equivariance_jacobian": 0,
    }
    return write_official(path, "kth-128", **tiny | changes)


def test_a_file_alone_decides_a_run_which_goes_on(tmp_path):
    data = write_videos(tmp_path / "data")
    path = tiny_file(tmp_path / "tiny.yaml", data)
    run = [f"--config={path}", f"--workdir={tmp_path / 'run'}", f"--cache-dir={tmp_path / 'cache'}"]
    assert train_fomm.train(command_line(*run, "--num-steps=3")) == 0
    assert train_fomm.train(command_line(*run)) == 0
    checkpoints = tmp_path / "run" / "checkpoints"
    assert sorted(int(path.name) for path in checkpoints.iterdir()) == [3, 6]  # 3 videos x 4 repeats / 4 x 2 epochs
    assert sorted(path.name for path in (tmp_path / "run" / "panels").glob("*.png")) == [
        "panel-00000003.png",
        "panel-00000006.png",
    ]
    assert ScheduleConfig() != command_line(*run).schedule
