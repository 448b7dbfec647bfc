"""The Markdown pages: link targets, commands, options and make targets exist."""

import contextlib
import functools
import io
import logging
import pathlib
import re
import runpy
import shlex
import tempfile
import warnings

import pytest
import tyro

from tests.support.official import NAMES, write_official

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES += [ROOT / "benchmarks" / "README.md"]
MODULE = r"(?:experiments|converters|benchmarks)\.\w+"


class Parsed(BaseException):
    """Raised instead of running a command, once its command line is parsed."""


def text_of(page: pathlib.Path) -> str:
    """Return the text of a page, with continued command lines joined."""
    return page.read_text(encoding="utf-8").replace("\\\n", " ")


def command_lines() -> list[tuple[str, str]]:
    """Return the module and the arguments of every command line in the pages."""
    found = {}
    for page in PAGES:
        for module, rest in re.findall(rf"python -m ({MODULE})([^`\n]*)", text_of(page)):
            found[module, " ".join(rest.split("#")[0].split())] = None
        for module, rest in re.findall(r"`((?:experiments|converters)\.\w+) ([^`\n]*)`", text_of(page)):
            found[module, rest] = None
    return list(found)


@functools.cache
def folder_of_files() -> str:
    """Return a folder with the official YAML files, which commands read to know their defaults."""
    folder = tempfile.mkdtemp()
    for name in NAMES:
        write_official(pathlib.Path(folder) / f"{name}.yaml", name)
    return folder


@functools.cache
def parse(module: str, arguments: str) -> tuple[int, str]:
    """Let a command only parse its arguments; return the exit code and the output."""
    real, logger, printed = tyro.cli, logging.getLogger("vidcomp_jax.data"), io.StringIO()

    def cli(*args, **kwargs):
        real(*args, **kwargs)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tyro, "cli", cli)
        patch.chdir(folder_of_files())
        patch.setattr("sys.argv", [module, *shlex.split(arguments)])
        patch.setattr(logger, "setLevel", lambda level: None)  # commands set the level for the whole process
        patch.setenv("COLUMNS", "200")
        try:
            with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # from runpy, about modules that are already imported
                runpy.run_module(module, run_name="__main__")
        except Parsed:
            return 0, ""
        except SystemExit as end:
            return end.code or 0, printed.getvalue()
    raise AssertionError(f"{module} does not parse a command line")


@functools.cache
def options_of(module: str) -> set[str]:
    """Return all options in the help of a command."""
    return set(re.findall(r"--[a-z][\w.-]*", parse(module, "--help")[1]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_images_lead_to_files(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    files = [link.split("#")[0] for link in links if not re.match(r"https?:", link)]
    assert [name for name in files if name and not (page.parent / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_a_heading_find_it(page):
    for target, anchor in re.findall(r"\]\(([^)\s#]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            headings = re.findall(r"^#+ (.*)$", (page.parent / target if target else page).read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_named_in_the_text_exist(page):
    folders = "vidcomp_jax|experiments|converters|benchmarks|tools|tests|docs"
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", text_of(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120


@pytest.mark.parametrize(("module", "arguments"), command_lines(), ids=lambda part: part[:40])
def test_documented_command_lines_are_understood(module, arguments):
    exit_code, printed = parse(module, arguments)
    assert exit_code == 0, printed


def test_programs_of_tools_exist():
    names = {name for page in PAGES for name in re.findall(r"python -m tools\.(\w+)", text_of(page))}
    assert names and all((ROOT / "tools" / f"{name}.py").is_file() for name in names)


def test_options_in_the_text_exist():
    known = set().union(*(options_of(module) for module, _ in command_lines()))
    for page in PAGES:
        for span in re.findall(r"`([^`\n]+)`", text_of(page)):
            for option in re.findall(r"(?<![\w-])--[a-z][\w.-]*", span):
                assert option in known, f"{page.name}: {span}"


def test_make_targets_in_the_text_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        code = re.findall(r"`([^`\n]+)`", text_of(page)) + re.findall(r"```\n(.*?)```", text_of(page), re.DOTALL)
        named = {name for part in code for name in re.findall(r"\bmake ([a-z][a-z-]*)", part)}
        assert named <= targets, page.name


def test_every_make_target_is_documented():
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert [target for target in targets if f"| `make {target}` |" not in contributing] == []
