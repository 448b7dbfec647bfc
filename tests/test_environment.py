"""The Makefile installs into its own environments, removes only those, and leaves other folders alone."""

import configparser
import json
import sys

import pytest

from tools import environment, lock

PIP = """
import json, pathlib, sys
pathlib.Path(sys.prefix, "pip-arguments.json").write_text(json.dumps(sys.argv[1:]))
sys.exit("fail" in sys.argv[-1])
"""


@pytest.fixture
def requirements(monkeypatch):
    """Replace pip in new environments by a script that records its arguments, so that nothing is downloaded."""
    monkeypatch.setattr(environment, "read_requirements", lambda extras: ["runtime", *extras])

    def make(command, **_):
        folder = environment.Path(command[-1])
        site_packages = folder / "lib" / "python3" / "site-packages"
        (site_packages / "pip").mkdir(parents=True)
        (folder / "bin").mkdir()
        (folder / "pyvenv.cfg").touch()
        (folder / "bin" / "python").write_text(
            f"#!/bin/sh\nshift 2\nexec '{sys.executable}' '{folder}/pip.py' \"$@\"\n"
        )
        (folder / "bin" / "python").chmod(0o755)
        (folder / "pip.py").write_text(PIP.replace("sys.prefix", repr(str(folder))))
        return environment.subprocess.CompletedProcess(command, 0)

    real = environment.subprocess.run
    monkeypatch.setattr(environment.subprocess, "run", lambda c, **k: make(c, **k) if "venv" in c else real(c, **k))


def called_with(folder) -> list[str] | None:
    """Return the arguments of the last call of pip, and delete the record."""
    file = folder / "pip-arguments.json"
    if not file.exists():
        return None
    arguments = json.loads(file.read_text())
    file.unlink()
    return arguments


def install(folder, *options: str) -> int:
    return environment.main(["install", *options, str(folder)])


def test_an_environment_grows_by_extras_and_is_not_installed_twice(tmp_path, requirements):
    folder = tmp_path / "with a space"
    assert install(folder) == 0
    arguments = called_with(folder)
    assert arguments[-1] == "runtime"
    assert arguments[arguments.index("--constraint") + 1] == str(environment.LOCK)
    assert install(folder) == 0 and called_with(folder) is None
    assert install(folder, "--extra", "test") == 0 and called_with(folder)[-2:] == ["runtime", "test"]
    assert install(folder) == 0 and called_with(folder) is None
    assert install(folder, "--extra", "torch") == 0 and called_with(folder)[-3:] == ["runtime", "test", "torch"]


def test_the_clone_is_importable_and_stays_untouched(tmp_path, requirements):
    assert install(tmp_path / "venv") == 0
    (path,) = (tmp_path / "venv").glob("lib/python*/site-packages/*.pth")
    assert path.read_text() == f"{environment.ROOT}\n"


def test_a_changed_lock_or_a_moved_clone_is_installed_again(tmp_path, requirements, monkeypatch):
    folder = tmp_path / "venv"
    install(folder, "--extra", "test")
    called_with(folder)
    monkeypatch.setattr(environment, "LOCK", tmp_path / "requirements.lock")
    environment.LOCK.write_text("jax==0")
    assert install(folder) == 0 and called_with(folder)[-2:] == ["runtime", "test"]


def test_a_failed_installation_is_tried_again(tmp_path, requirements, capfd):
    folder = tmp_path / "venv"
    assert install(folder, "--extra", "fail") == 1
    assert "error: pip could not install" in capfd.readouterr().err
    called_with(folder)
    assert install(folder) == 0 and called_with(folder)[-1] == "runtime"


def test_newest_versions_are_looked_for_every_time(tmp_path, requirements, capsys):
    folder = tmp_path / "venv"
    for _ in range(2):
        assert install(folder, "--latest") == 0
        arguments = called_with(folder)
        assert "--constraint" not in arguments and "--upgrade" in arguments
    assert install(folder) == 1
    assert "holds the newest versions" in capsys.readouterr().err


def test_another_python_is_refused_unless_none_was_asked_for(tmp_path, requirements, capsys):
    folder = tmp_path / "venv"
    install(folder)
    mark = folder / environment.MARK
    held = json.loads(mark.read_text())
    mark.write_text(json.dumps({**held, "python": "3.99"}))
    assert install(folder) == 1
    assert capsys.readouterr().err.startswith(f"error: VENV={folder} holds Python 3.99, not 3.")
    called_with(folder)
    assert install(folder, "--any-python") == 0 and called_with(folder) is None


def test_an_old_python_gets_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environment.sys, "version_info", (3, 10, 1))
    assert install(tmp_path / "venv") == 1
    error = capsys.readouterr().err
    assert "is Python 3.10, and 3.11 or newer is needed" in error and error.count("\n") == 1
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("command", ["install", "remove"])
def test_a_folder_that_make_did_not_make_is_left_alone(tmp_path, capsys, command):
    precious = tmp_path / "mine" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("years of work")
    for folder in (precious.parent, precious):
        assert environment.main([command, str(folder)]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"error: VENV={folder} ") and error.count("\n") == 1
    assert precious.read_text() == "years of work"


def test_remove(tmp_path, requirements, capsys):
    folder, link = tmp_path / "venv", tmp_path / "link"
    assert environment.main(["remove", str(folder)]) == 0  # there is no such folder
    install(folder)
    link.symlink_to(folder)
    assert environment.main(["remove", str(link)]) == 1
    assert "is a link" in capsys.readouterr().err
    assert environment.main(["remove", str(folder)]) == 0
    assert not folder.exists()


def test_an_unknown_extra_names_the_known_ones(tmp_path, capsys):
    assert install(tmp_path / "venv", "--extra", "metal") == 1
    assert "there is no extra metal; choose from cuda12, cuda13, " in capsys.readouterr().err
    assert not (tmp_path / "venv").exists()


def test_every_requirement_is_locked():
    config = configparser.ConfigParser()
    config.read(environment.ROOT / "setup.cfg")
    assert {extra for extras in lock.EXTRAS.values() for extra in extras} == set(config["options.extras_require"])
    locked = {pin.split("==")[0] for pin in lock.pins(lock.LOCK.read_text())}
    for extras in lock.EXTRAS.values():
        for requirement in environment.read_requirements(extras):
            name = lock.re.match(r"[\w.-]+", requirement)[0].lower()
            assert name in locked, requirement
