"""Animation across the clips of a data set: pairs lists, random pairs, strips of frames."""

import numpy as np
import pytest

from converters.official import converted
from experiments import animate as command
from experiments.animate import ANIMATE_PRESETS, AnimateConfig
from experiments.commands import parse
from tests.support import golden
from vidcomp_jax.data import open_clips
from vidcomp_jax.data.video_pairs import VideoPair, random_pairs, read_pairs
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.animation import animate, detect
from vidcomp_jax.media.images import read_image, to_uint8
from vidcomp_jax.media.video import probe
from vidcomp_jax.storage.checkpoint import save_model

SIZE = 64


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
