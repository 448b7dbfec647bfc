"""Nothing of the user's is replaced: folders are told apart by their markers, and signals clean up."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.support import toy_training
from vidcomp_jax.errors import InputError
from vidcomp_jax.evaluation.records import METRICS_FILE, finish_records, open_records
from vidcomp_jax.media.images import write_image, written_as
from vidcomp_jax.storage.atomic import name_of_file, new_file, remove_leftovers, temporary_beside
from vidcomp_jax.storage.folders import MARKER, check_output_folder, mark, new_folder
from vidcomp_jax.training.run_folder import check_workdir

ROOT = pathlib.Path(__file__).parent.parent


def written(path, kind="model", name="weights"):
    with new_folder(path, kind, replace=True) as folder:
        (folder / name).write_text("old")
    return path


def test_a_folder_is_replaced_by_its_own_kind_alone(tmp_path):
    path = written(tmp_path / "model")
    check_output_folder(path, "model", overwrite=True)
    with pytest.raises(InputError, match="exists; give another name, or `overwrite`"):
        check_output_folder(path, "model", overwrite=False)
    with pytest.raises(InputError, match=r"`png_frames` is .*model: contains something other .*a model; it is not rep"):
        check_output_folder(path, "frames", overwrite=True, field="png_frames")
    with pytest.raises(InputError, match="a model; it is not replaced"):
        written(path, "frames")
    written(path, name="other")
    assert sorted(file.name for file in path.iterdir()) == [MARKER, "other"] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("foreign", ["thesis.tex", "weights/notes", "link"])
def test_a_folder_with_anything_unknown_in_it_is_kept(tmp_path, foreign):
    path = written(tmp_path / "model", name="config.json")
    (path / "weights").mkdir()
    (path / foreign).symlink_to(tmp_path) if foreign == "link" else (path / foreign).touch()
    with pytest.raises(InputError, match=f"contains something other than an earlier output, {foreign}; it is not"):
        check_output_folder(path, "model", overwrite=True)
    with pytest.raises(InputError, match=f"{foreign}; it is not replaced"):
        written(path)
    assert (path / "config.json").read_text() == "old" and os.path.lexists(path / foreign)


def test_folders_without_a_marker_that_can_be_read_are_kept(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    check_output_folder(project, "model", overwrite=True)  # an empty folder holds nothing to lose
    (project / "config.json").write_text("{}")
    for content in (None, b"", b"\xff", b"[" * 10_000, b'{"kind": 1}'):
        if content is not None:
            (project / MARKER).write_bytes(content)
        with pytest.raises(InputError, match="has no marker of vidcomp_jax; it is not replaced"):
            check_output_folder(project, "model", overwrite=True)
    mark(project, "run", growing=True)
    with pytest.raises(InputError, match="holds a training run, which nothing replaces"):
        check_output_folder(project, "run", overwrite=True)


def test_folders_of_a_newer_version_are_named(tmp_path):
    path = written(tmp_path / "model")
    marker = json.loads((path / MARKER).read_text())
    (path / MARKER).write_text(json.dumps(marker | {"version": 2, "more": [1]}))
    for use in (lambda: check_output_folder(path, "model", overwrite=True), lambda: check_workdir(path)):
        with pytest.raises(InputError, match=r"model: a newer version of vidcomp_jax wrote it, in format 2"):
            use()


@pytest.mark.parametrize("inside", [["config.json", "weights/"], ["config.json"], ["notes.txt"], ["checkpoints/"]])
def test_a_run_begins_in_an_empty_folder_only(tmp_path, inside):
    for name in inside:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=r"holds other things than a training run \(.*give a new or an empty folder"):
        toy_training.run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(name.strip("/") for name in inside)


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    toy_training.run(tmp_path, config=toy_training.config(num_steps=2))
    for hidden in (MARKER, ".lock"):
        (tmp_path / hidden).unlink()
    assert toy_training.run(tmp_path, config=toy_training.config(num_steps=3)).step == 3
    assert json.loads((tmp_path / MARKER).read_text())["kind"] == "run"
    (tmp_path / "notes.txt").touch()  # what the user adds to a run does not stop it
    assert toy_training.run(tmp_path, config=toy_training.config(num_steps=4)).step == 4


def test_a_finished_evaluation_is_kept_until_the_new_one_is_finished(tmp_path):
    output = tmp_path / "evaluation"
    open_records(output, toy_training.config())
    (output / METRICS_FILE).write_text("old")
    for _ in range(2):  # the second time after an interruption
        open_records(output, toy_training.config(seed=1), overwrite=True)
        assert (output / ".replaced" / METRICS_FILE).read_text() == "old" and not (output / METRICS_FILE).exists()
    open_records(output, toy_training.config(seed=1))
    finish_records(output)
    assert sorted(path.name for path in output.iterdir()) == [MARKER, "clips"]
    (output / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"earlier output, thesis.tex; it is not replaced"):
        open_records(output, toy_training.config(), overwrite=True)


def test_what_a_killed_process_left_is_removed(tmp_path):
    path = tmp_path / ("name" * 62 + ".mp4")  # 252 bytes: its temporary name must be shorter
    with new_file(path) as temporary:
        temporary.touch()
        remove_leftovers(path)
        assert temporary.exists()  # of a process that still runs
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = temporary_beside(path)
    left = left.with_name(left.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-"))
    left.mkdir()
    other = tmp_path / f".{path.name[:190]}.0123abcd-{dead.pid}-0123abcd.tmp"  # of another machine, and young
    other.touch()
    remove_leftovers(path)
    assert sorted(tmp_path.iterdir()) == sorted([path, other])


def test_names_fit_the_file_system(tmp_path):
    with (
        pytest.raises(InputError, match="its name has 260 bytes; this file system allows 255"),
        new_file(tmp_path / ("ä" * 130)),
    ):
        pass
    names = [name_of_file("ä" * 200 + end, ".png") for end in ("a", "b")]
    assert names[0] != names[1] and all(len(name.encode()) <= 200 and name.endswith(".png") for name in names)
    assert name_of_file("a/b", ".png") == "a-b.png"


def test_only_an_image_that_says_so_was_written_as_a_contact_sheet(tmp_path):
    import numpy as np

    path = tmp_path / "sheet.png"
    assert not written_as(path, "contact sheet")
    write_image(path, np.zeros((2, 2, 3), np.uint8))
    assert not written_as(path, "contact sheet")
    write_image(path, np.zeros((2, 2, 3), np.uint8), written_as="contact sheet")
    assert written_as(path, "contact sheet") and not written_as(path, "photograph")


COMMAND = """
import dataclasses, gc, os, pathlib, signal, sys, time
from experiments.commands import run
from vidcomp_jax.storage.folders import new_folder

@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    number: int = 0

def main(config):
    def callback(phase, info):  # as that of JAX, in which Python cannot raise the exception of a signal
        os.kill(os.getpid(), config.number)
        for _ in range(1000):
            pass

    with new_folder(pathlib.Path("out"), "frames"):
        gc.callbacks.append(callback)
        gc.collect()
        gc.callbacks.clear()
        time.sleep(5)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background sets it to be ignored
run(main, Config)
"""


@pytest.mark.parametrize(
    ("number", "says", "code"), [(signal.SIGINT, "interrupted\n", 130), (signal.SIGTERM, "terminated\n", 143)]
)
def test_a_signal_in_a_callback_ends_the_command_and_leaves_nothing(tmp_path, number, says, code):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path.parent)}
    command = [sys.executable, "-c", COMMAND, f"--number={int(number)}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, says) and not list(tmp_path.iterdir())
