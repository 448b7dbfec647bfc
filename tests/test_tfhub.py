"""The TensorFlow Hub path against small saved models with the published signature, in both formats."""

import functools
import hashlib
import http.server
import io
import pathlib
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest

from tests.support.hub_modules import blend, save_tf1, save_tf2
from vidcomp_jax.errors import InputError
from vidcomp_jax.inbetween.tfhub import HubModule, find_module


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("modules")
    return {"tf1": save_tf1(root / "tf1"), "tf2": save_tf2(root / "tf2")}


@pytest.fixture(scope="module")
def modules(folders):
    return {name: HubModule(folder) for name, folder in folders.items()}


def ends(count, size, channels):
    rng = np.random.default_rng(count + channels)
    return tuple(rng.random((count, size, size, channels), dtype=np.float32) for _ in range(2))


@pytest.mark.parametrize("kind", ["tf1", "tf2"])
@pytest.mark.parametrize(("count", "channels"), [(1, 1), (16, 3), (17, 1), (17, 3)])
def test_fills_any_number_of_clips_in_gray_and_color(modules, kind, count, channels):
    first, last = ends(count, 64, channels)
    clips = modules[kind](first, last)
    weight = np.linspace(0, 1, 16, dtype=np.float32)[:, None, None, None]
    np.testing.assert_allclose(clips, first[:, None] * (1 - weight) + last[:, None] * weight, atol=1e-5)
    assert clips.dtype == np.float32
    np.testing.assert_array_equal(clips[:, 0], first)
    np.testing.assert_array_equal(clips[:, -1], last)


def test_resizes_other_sizes_and_says_so(modules, caplog):
    first = np.full((2, 128, 96, 1), 0.25, np.float32)
    clips = modules["tf2"](first, first)
    assert clips.shape == (2, 16, 128, 96, 1)
    np.testing.assert_allclose(clips, 0.25, atol=1e-6)
    assert "128x96 are resized to 64x64" in caplog.text


def test_gray_comes_back_as_the_mean_of_the_channels(tmp_path):
    tint = [0.0, 128.0, 64.0]
    module = HubModule(save_tf2(tmp_path / "m", function=lambda tf, x: blend(tf, x) * 0 + tf.constant(tint)))
    first, last = ends(1, 64, 1)
    np.testing.assert_allclose(module(first, last)[:, 1:-1], np.mean(tint) / 255, atol=1e-6)


def cached(monkeypatch, tmp_path, name, folder):
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / hashlib.sha1(name.encode()).hexdigest()).symlink_to(folder, target_is_directory=True)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(cache))


@pytest.mark.parametrize("query", ["", "?tf-hub-format=compressed"])
@pytest.mark.parametrize("prefix", ["", "https://tfhub.dev/"])
def test_handle_is_found_in_the_hub_cache(monkeypatch, tmp_path, folders, query, prefix):
    handle = "google/tweening_conv3d_kth/1"
    cached(monkeypatch, tmp_path, f"https://tfhub.dev/{handle}{query}", folders["tf1"])
    assert find_module(prefix + handle).samefile(folders["tf1"])


class Archive(http.server.BaseHTTPRequestHandler):
    """Serves the module folder like TensorFlow Hub: as an archive, if the request asks for one."""

    def __init__(self, folder, *args):
        self.folder = folder
        super().__init__(*args)

    def do_GET(self):
        if self.path != "/google/module/1?tf-hub-format=compressed":
            self.send_error(404)
            return
        body = io.BytesIO()
        with tarfile.open(fileobj=body, mode="w:gz") as tar:
            tar.add(self.folder, arcname=".")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.getvalue())

    def log_message(self, *args):
        """Print nothing."""


@pytest.fixture
def server(folders):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Archive, folders["tf2"])) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_handle_is_fetched_once_into_the_cache(monkeypatch, tmp_path, server):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    folder = find_module(f"{server}/google/module/1")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]
    first, last = ends(1, 64, 1)
    assert HubModule(folder)(first, last).shape == (1, 16, 64, 64, 1)
    monkeypatch.setattr("urllib.request.urlopen", None)
    assert find_module(f"{server}/google/module/1") == folder


def test_what_cannot_be_fetched_says_how_to_do_it_by_hand(monkeypatch, tmp_path, server):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"404.*curl -L .*/1\?tf-hub-format=compressed' \| tar -xz -C MODULE"):
        find_module(f"{server}/google/other/1")
    assert list((tmp_path / "cache").iterdir()) == []


class Nonsense(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.wfile.write(b"no status line\r\n\r\n")

    def log_message(self, *arguments):
        """Print nothing."""


def test_a_server_that_does_not_speak_http_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nonsense) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match=r"cannot be fetched \(no status line\); .*curl -L"):
            find_module(f"http://127.0.0.1:{server.server_port}/google/module/1")
        server.shutdown()
    assert list((tmp_path / "cache").iterdir()) == []


def test_bad_modules_are_named(tmp_path):
    with pytest.raises(InputError, match="neither a folder nor a TensorFlow Hub handle"):
        find_module(str(tmp_path / "missing"))
    with pytest.raises(InputError, match=r"is not a SavedModel: it has no saved_model\.pb"):
        HubModule(tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(InputError, match="broken: cannot be loaded as a SavedModel"):
        HubModule(broken)
    with pytest.raises(InputError, match=r"signatures \['serving'\], not 'default'"):
        HubModule(save_tf2(tmp_path / "name", name="serving"))
    with pytest.raises(InputError, match=r"takes \{'frames': \(16, 2, 32, 32, 3\)\}.*\(16, 2, 64, 64, 3\)"):
        HubModule(save_tf2(tmp_path / "size", shape=(16, 2, 32, 32, 3)))


def test_needs_neither_tensorflow_hub_nor_pkg_resources(folders):
    """setuptools 82 dropped pkg_resources, and tensorflow_hub may not be installed."""
    code = f"""
import sys
sys.modules["tensorflow_hub"] = sys.modules["pkg_resources"] = None
import numpy as np
from vidcomp_jax.inbetween.tfhub import HubModule
assert "tensorflow" not in sys.modules
frame = np.zeros((1, 64, 64, 1), np.float32)
print(HubModule({str(folders["tf1"])!r})(frame, frame).shape)
"""
    root = pathlib.Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "(1, 16, 64, 64, 1)", done.stderr
