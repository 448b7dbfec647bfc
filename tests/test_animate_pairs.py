"""Animation across the clips of a data set: pairs lists, random pairs, strips of frames."""

import numpy as np
import pytest

from converters.official import converted
from experiments import animate as command
from experiments.animate import ANIMATE_PRESETS, AnimateConfig
from experiments.commands import parse
from tests.support import golden
from tests.support.official import write_official, write_videos
from vidcomp_jax.data import open_clips
from vidcomp_jax.data.video_pairs import VideoPair, random_pairs, read_pairs
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.animation import animate, detect
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import movement_scale
from vidcomp_jax.media.images import read_image, to_float, to_uint8
from vidcomp_jax.media.video import probe
from vidcomp_jax.storage.checkpoint import save_model
from vidcomp_jax.storage.folders import MARKER

SIZE = 64
READS = {"preset_file": command.official}


@pytest.fixture(scope="module")
def fomm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs") / "model"
    model = golden.fomm("tiny-gray")
    save_model(folder, model, converted(model.config, SIZE))
    return folder


def parsed(fomm, *arguments):
    given = [f"--fomm={fomm}", "--dataset=synthetic", "--synthetic.num-test=3", "--synthetic.length=5"]
    return parse(AnimateConfig, [*given, "--batch-size=4", *arguments], ANIMATE_PRESETS)


def test_a_pairs_list_decides_what_is_animated(fomm, tmp_path):
    config = parsed(fomm, f"--output={tmp_path / 'out'}", f"--pairs-list={tmp_path / 'pairs.csv'}", "--png-strips")
    clips = open_clips(config.data, "test")
    first, last = clips.names[0], clips.names[2]
    (tmp_path / "pairs.csv").write_text(f"distance,source,driving,frame\n3.5,{last},{first},0\n1.0,{first},{first},0\n")
    command.main(config)
    names = [f"{first}-{last}", f"{first}-{first}"]
    assert sorted(path.name for path in config.output.glob("*.mp4")) == sorted(f"{name}.mp4" for name in names)
    assert probe(config.output / f"{names[0]}.mp4")[:3] == (SIZE, SIZE, 5)
    strip = read_image(config.output / "png" / f"{names[0]}.png", num_channels=1)
    assert strip.shape == (SIZE, 5 * SIZE, 1)
    model = command.load_fomm(fomm)
    driving = clips.frames(0, np.arange(5))
    (expected,) = animate(model, clips.frames(2, [0])[0], [driving], detect(model, driving[0]), chunk=5)
    difference = np.abs(strip.astype(int) - np.concatenate(list(to_uint8(expected)), axis=1))
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
    with pytest.raises(InputError, match=r"`output` is .*exists"):
        command.main(config)


def yaml_file(tmp_path, **changes):
    """Write the configuration of the model in `fomm`, and videos; return both."""
    data = tmp_path / "data"
    if not data.is_dir():
        write_videos(data, test=3)
    given = {"dataset_params__root_dir": str(data), "dataset_params__frame_shape": [SIZE, SIZE, 1]}
    layout = golden.layouts()["tiny-gray"]["model_params"]
    return write_official(tmp_path / "tiny.yaml", "kth-128", model_params=layout, **given | changes)


def from_yaml(fomm, path, *arguments):
    given = [f"--config={path}", f"--fomm={fomm}", f"--cache-dir={path.parent / 'cache'}", "--batch-size=4"]
    return parse(AnimateConfig, [*given, f"--output={path.parent / 'out'}", *arguments], ANIMATE_PRESETS, **READS)


def test_an_official_file_decides_what_is_animated_and_how(fomm, tmp_path, capsys):
    (tmp_path / "pairs.csv").write_text("source,driving\n0.mp4,2.mp4\n1.mp4,0.mp4\n")
    moves = {"use_relative_movement": True, "use_relative_jacobian": False, "adapt_movement_scale": True}
    animate_params = {"num_pairs": 1, "format": ".gif", "normalization_params": moves}
    listed = {"dataset_params__pairs_list": str(tmp_path / "pairs.csv")}
    config = from_yaml(fomm, yaml_file(tmp_path, animate_params=animate_params, **listed))
    command.main(config)
    assert "not used in animation: dataset_params.augmentation_params, train_params" in capsys.readouterr().out
    written = [path.name for path in config.output.iterdir() if path.is_file()]
    assert sorted(written) == [MARKER, "2.mp4-0.mp4.gif"]
    assert probe(config.output / "2.mp4-0.mp4.gif")[:3] == (3 * SIZE, SIZE, 4)
    strip = read_image(config.output / "png" / "2.mp4-0.mp4.png", num_channels=1)
    clips, model = open_clips(config.data, "test"), command.load_fomm(fomm)
    source, driving = clips.frames(0, [0])[0], clips.frames(2, np.arange(4))
    first, *_ = found = [model.detect(to_float(frame)) for frame in driving]
    own = model.detect(to_float(source))
    scale = movement_scale(own, first)
    for i, keypoints in enumerate(found):
        # Relative positions, scaled, with the Jacobians of the driving frame, as `normalize_kp` there.
        position = own.position + scale * (keypoints.position - first.position)
        rendered = model.render(model.encode(to_float(source), own), None, Keypoints(position, keypoints.jacobian))
        difference = abs(np.asarray(rendered.prediction)[None] * 255 - strip[:, SIZE * i : SIZE * (i + 1)])
        assert difference.max() < 1


def test_options_override_an_official_file(fomm, tmp_path):
    path = yaml_file(tmp_path, animate_params={"num_pairs": 7, "normalization_params": {"adapt_movement_scale": True}})
    config = from_yaml(fomm, path)
    # Without relative movement, the other two settings mean nothing there.
    assert not config.relative and not config.adapt_scale and config.format == ".mp4" and config.pairs_list is None
    assert (config.num_pairs, config.size, config.png_strips) == (7, SIZE, True)
    assert from_yaml(fomm, path, "--num-pairs=2", "--relative", "--adapt-scale").num_pairs == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"animate_params__format": ".avi"}, "animate_params.format is '.avi'; it must be .mp4 or .gif"),
        ({"animate_params__num_pairs": 0}, "num_pairs is 0; it must be at least 1"),
        ({"animate_params__num_pair": 1}, "animate_params.num_pair: unknown key; perhaps num_pairs was meant"),
        ({"model_params__common_params__num_kp": 9}, "model_params.common_params.num_kp is 9; the model in .* has 5"),
    ],
)
def test_mistakes_in_an_official_file_are_one_line(fomm, tmp_path, changes, message):
    path = yaml_file(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as error:
        command.main(from_yaml(fomm, path))
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_random_pairs_are_those_of_the_published_code():
    np.random.seed(0)  # as there
    there = np.mgrid[:4, :4].reshape(2, -1).T.take(np.random.choice(16, 4, replace=False), axis=0)
    assert random_pairs(9, 4) == [VideoPair(source=source, driving=driving) for driving, source in there]
    assert len(set(random_pairs(2, 50))) == 4
    assert max(pair.source for pair in random_pairs(3, 7)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column source; found nothing"),
        ("source,target\na,b\n", "has no column driving; found source, target"),
        ("source,driving\na,b\na,c\n,a\n", r"line 3: driving c; line 4: source ; the split has a, b"),
        ("source,driving\n", "holds no pair"),
        (None, "no such file"),
    ],
)
def test_bad_lists_are_one_line(tmp_path, text, message):
    path = tmp_path / "pairs.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_pairs(path, ["a", "b"], 5)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_a_list_of_absent_videos_leaves_nothing(fomm, tmp_path):
    (tmp_path / "pairs.csv").write_text("source,driving\nnobody.mp4,nobody.mp4\n")
    with pytest.raises(InputError, match=r"names videos that are not in the split, line 2: source nobody.mp4"):
        command.main(parsed(fomm, f"--output={tmp_path / 'out'}", f"--pairs-list={tmp_path / 'pairs.csv'}"))
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]


def test_pictures_and_data_sets_exclude_each_other(fomm):
    for arguments, message in (
        (["--source=a.png"], "`source` is a.png; it must be left out with `dataset`"),
        (["--best-frame=3"], "`best_frame` is 3; it must be left out with `dataset`"),
    ):
        with pytest.raises(InputError, match=message):
            command.main(parsed(fomm, *arguments))
    with pytest.raises(InputError, match="`driving` is missing; give a picture and a video, or a `dataset`"):
        command.main(parse(AnimateConfig, [f"--fomm={fomm}", "--source=a.png"], ANIMATE_PRESETS))
