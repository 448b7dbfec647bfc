"""Files and folders appear complete or not at all, whatever fails while they are written."""

import errno
import pathlib
import shutil

import pytest

from vidcomp_jax.data import DataConfig, FolderConfig, open_clips
from vidcomp_jax.data.bair_files import find_damaged
from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.storage.folders import MARKER, mark, new_folder

AVI = pathlib.Path(__file__).parent / "data" / "kth_like" / "walking" / "person19_walking_d1_uncomp.avi"


@pytest.fixture
def full_disk(monkeypatch):
    """Make text files accept one character, and then fail because the disk is full."""

    def write(path: pathlib.Path, text: str):
        with path.open("w") as file:
            file.write(text[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_text", write)


def contents(folder: pathlib.Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MARKER]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_a_file_is_replaced_when_it_is_complete(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with new_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert contents(tmp_path) == {"file": "new"}


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), new_file(path) as temporary:
        temporary.write_text("half of it")
        raise RuntimeError("stop")
    assert contents(tmp_path) == {"file": "old"}


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match=r"the folder .*missing does not exist"), new_file(tmp_path / "missing" / "x"):
        pass
    with pytest.raises(InputError, match="a folder, where a file is to be written"), new_file(tmp_path):
        pass


@pytest.mark.parametrize("replace", [False, True])
def test_a_new_folder_appears_when_it_is_complete(tmp_path, replace):
    path = tmp_path / "above" / "folder"
    with new_folder(path, "frames", replace=replace) as temporary:
        (temporary / "a").write_text("new")
        assert not path.exists()
    assert contents(tmp_path) == {"above/folder/a": "new"}


def test_a_folder_is_replaced_only_on_request(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    with new_folder(path, "frames") as temporary:  # an empty folder may be replaced
        (temporary / "a").write_text("first")
    with pytest.raises(FileExistsError), new_folder(path, "frames") as temporary:
        (temporary / "b").write_text("second")
    assert contents(tmp_path) == {"folder/a": "first"}
    with new_folder(path, "frames", replace=True) as temporary:
        (temporary / "c").write_text("third")
    assert contents(tmp_path) == {"folder/c": "third"} and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("replace", [False, True])
def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path, replace):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "a").write_text("old")
    mark(path, "frames")
    with pytest.raises(RuntimeError, match="stop"), new_folder(path, "frames", replace=replace) as temporary:
        (temporary / "a").write_text("half of it")
        raise RuntimeError("stop")
    assert contents(tmp_path) == {"folder/a": "old"} and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_nothing_of_the_index_of_a_folder(tmp_path, full_disk):
    for split in ("train", "test"):
        (tmp_path / "videos" / split).mkdir(parents=True)
        shutil.copy(AVI, tmp_path / "videos" / split / "a.avi")
    streamed = FolderConfig(cache=False)
    config = DataConfig(name="folder", data_dir=tmp_path / "videos", cache_dir=tmp_path / "cache", folder=streamed)
    with pytest.raises(InputError, match=r"cannot be written to: no space left .*Make room"):
        open_clips(config, "train")
    assert not list((tmp_path / "cache").iterdir())


def test_a_full_disk_leaves_nothing_of_the_list_of_damaged_records(tmp_path, full_disk):
    with pytest.raises(InputError, match=r"cannot be written to: no space left .*Make room"):
        find_damaged([], lambda record: None, tmp_path / "cache", "bair")
    assert not list((tmp_path / "cache").iterdir())
