"""Creates, updates and removes the virtual environments that the Makefile uses.

    python3 tools/environment.py install DIR [--extra NAME ...] [--latest]
    python3 tools/environment.py remove DIR

An environment contains the dependencies in setup.cfg, with those of the requested extras, in the versions of
requirements.lock, and has this clone on its module search path. Nothing is written into the clone, which may be
read-only. A marker file in the environment shows that this program created it and records its contents: installing
what is already there is immediate and works offline, and only a marked environment is ever removed.

Uses only the standard library, and runs on Python 3.6 and later in order to report that a newer one is needed.
"""

import argparse
import configparser
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
MARK = "vidcomp_jax-environment.json"
"""Name of the marker file of environments that this program created."""
MINIMUM = (3, 11)


class Failure(Exception):
    """An error that ends the command; its one-line message is shown to the user."""


def main(arguments=None):
    """Run a command; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command")
    commands.required = True  # as an argument of add_subparsers it needs Python 3.7
    install_parser = commands.add_parser("install", help="make an environment, or bring it up to date")
    install_parser.add_argument("--extra", action="append", default=[], help="an extra of setup.cfg")
    install_parser.add_argument("--latest", action="store_true", help="newest versions in place of the locked ones")
    install_parser.add_argument(
        "--any-python", action="store_true", help="keep an environment that was made with another Python"
    )
    remove_parser = commands.add_parser("remove", help="remove an environment that was made here")
    for subparser in (install_parser, remove_parser):
        subparser.add_argument("folder", metavar="DIR", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "remove":
            remove(options.folder)
        else:
            install(options.folder, options.extra, latest=options.latest, any_python=options.any_python)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: VENV={options.folder}: {error.filename}: {error.strerror}; name another folder", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def install(folder, extras, latest=False, any_python=False):
    """Create or update the environment in `folder`, with the runtime dependencies and those of `extras`."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if sys.version_info < MINIMUM:
        raise Failure(
            f"{sys.executable} is Python {version}, and {MINIMUM[0]}.{MINIMUM[1]} or newer is needed; name one, as in "
            "make test PYTHON=python3.12"
        )
    held = read_mark(folder) if folder.exists() else None
    if held and held["python"] != version:
        if not any_python:
            raise Failure(
                f"VENV={folder} holds Python {held['python']}, not {version}; name another folder, such as "
                f"VENV=.venv-{version}, or remove this one with make clean"
            )
        version = held["python"]
    if held and held["latest"] != latest:
        versions = "the newest versions" if held["latest"] else "the locked versions"
        raise Failure(f"VENV={folder} holds {versions} of what it contains; name another folder")
    digest = hashlib.sha256((ROOT / "setup.cfg").read_bytes() + LOCK.read_bytes()).hexdigest()
    wanted = {"python": version, "latest": latest, "digest": digest, "clone": str(ROOT)}
    requirements = read_requirements(extras)
    if held:
        if not latest and set(extras) <= set(held["extras"]) and wanted.items() <= held.items():
            return
        extras = sorted({*extras, *held["extras"]})
        requirements = read_requirements(extras)
    python = create(folder, wanted)
    print(f"installing into {folder}: {', '.join(['the dependencies', *extras])}", flush=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    which = ["--upgrade", "--upgrade-strategy", "eager"] if latest else ["--constraint", str(LOCK)]
    if subprocess.run(pip + which + requirements).returncode:
        raise Failure("pip could not install the packages, for the reason above; the same command tries again")
    write_mark(folder, {**wanted, "extras": extras})


def create(folder, wanted):
    """Create the marked environment, without packages, unless it exists; return its interpreter."""
    if not folder.exists() or not read_mark(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Marked first, as ours but incomplete, so that an interrupted installation can be continued.
        write_mark(folder, {**wanted, "digest": None, "extras": []})
    if not (folder / "pyvenv.cfg").exists() or not any(folder.glob("lib/python*/site-packages/pip")):
        made = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True)
        if made.returncode:
            reason = " ".join((made.stdout + made.stderr).split())
            raise Failure(f"{sys.executable} -m venv failed: {reason[:300]}")
    for site_packages in folder.glob("lib/python*/site-packages"):
        (site_packages / "vidcomp_jax-clone.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    return folder / "bin" / "python"


def remove(folder):
    """Remove the environment in `folder`, if there is one."""
    if folder.is_symlink():
        raise Failure(f"VENV={folder} is a link and is left as it is; remove it yourself")
    if folder.exists():
        read_mark(folder)
        shutil.rmtree(str(folder))


def read_mark(folder):
    """Return the recorded contents of the environment in `folder`, or None for an empty folder."""
    try:
        return json.loads((folder / MARK).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if folder.is_dir() and not any(folder.iterdir()):
            return None
    except ValueError:
        pass
    except NotADirectoryError:
        raise Failure(f"VENV={folder} is a file; name a folder") from None
    raise Failure(
        f"VENV={folder} was not made by this Makefile (it has no readable {MARK}) and is left as it is; remove it, or "
        "name another folder"
    )


def write_mark(folder, held):
    """Write the marker file of `folder`, with its contents `held`."""
    new = folder / (MARK + ".new")
    new.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")
    new.replace(folder / MARK)


def read_requirements(extras):
    """Return the runtime requirements in setup.cfg and those of `extras`."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(str(ROOT / "setup.cfg"), encoding="utf-8")
    available = config["options.extras_require"]
    for extra in extras:
        if extra not in available:
            raise Failure(f"there is no extra {extra}; choose from {', '.join(available)}")
    lists = [config["options"]["install_requires"], *(available[extra] for extra in extras)]
    return [line.strip() for text in lists for line in text.splitlines() if line.strip()]


if __name__ == "__main__":
    sys.exit(main())
