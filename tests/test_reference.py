"""`make docs` treats warnings as errors, and replaces only an earlier reference."""

import importlib
import sys
import types
import warnings
from typing import NamedTuple

import jax
import pytest

from vidcomp_jax.storage.folders import MARKER, mark


@pytest.fixture
def reference(monkeypatch):
    """The program with a stand-in for pdoc, which the test environment lacks; it documents `tools`."""

    def generate(*names, output_directory):
        output_directory.mkdir(parents=True, exist_ok=True)
        for name in ("index", *names):
            (output_directory / f"{name}.html").touch()
        (output_directory / "search.js").touch()

    render = types.SimpleNamespace(configure=lambda **settings: None)
    monkeypatch.setitem(sys.modules, "pdoc", types.SimpleNamespace(pdoc=generate, render=render))
    monkeypatch.setitem(sys.modules, "pdoc.render", render)
    monkeypatch.delitem(sys.modules, "tools.reference", raising=False)
    module = importlib.import_module("tools.reference")
    monkeypatch.setattr(module, "PACKAGES", ("tools",))
    array_name = jax.Array.__name__
    yield module
    jax.Array.__name__ = array_name
    sys.modules.pop("tools.reference")


@pytest.fixture
def run(reference, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["reference", f"--output={tmp_path / 'pages'}"])
    return reference.main


def test_an_earlier_reference_is_replaced(run, tmp_path):
    assert run() == 0
    (tmp_path / "pages" / "of_a_module_that_is_gone.html").touch()
    mark(tmp_path / "pages", "reference")
    assert run() == 0
    assert sorted(file.name for file in (tmp_path / "pages").iterdir()) == [
        MARKER,
        "index.html",
        "search.js",
        "tools.html",
    ]


def test_another_folder_is_left_as_it_is(run, tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "thesis.html").touch()
    with pytest.raises(SystemExit, match="contains something other than an earlier output"):
        run()
    assert [file.name for file in (tmp_path / "pages").iterdir()] == ["thesis.html"]


def test_a_warning_of_the_generator_is_an_error(reference, run, monkeypatch, capsys):
    monkeypatch.setattr(
        reference.pdoc, "pdoc", lambda *names, output_directory: warnings.warn("cannot read", stacklevel=1)
    )
    assert run() == 1
    printed = capsys.readouterr().err
    assert "cannot read" in printed and "error: 1 warnings" in printed


def test_fields_keep_no_docstring_of_their_position(reference):
    class Point(NamedTuple):
        x: float

    assert "field number 0" in Point.x.__doc__
    reference.remove_generated_docstrings(types.SimpleNamespace(Point=Point, number=1))
    assert not Point.x.__doc__ and not Point.__new__.__doc__


def test_modules_of_packages_in_packages_are_found(reference, monkeypatch):
    monkeypatch.setattr(reference, "PACKAGES", ("vidcomp_jax",))
    assert {"vidcomp_jax", "vidcomp_jax.errors", "vidcomp_jax.data.synthetic.clips"} <= set(reference.module_names())
