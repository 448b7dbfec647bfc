"""Generates the API reference from the docstrings: `make docs` writes it to build/docs.

Every module of the library, the commands and the converters gets a page. Any warning of the generator, such as an
annotation that cannot be resolved or a member that cannot be imported, is an error.
"""

import argparse
import importlib
import pkgutil
import sys
import warnings
from pathlib import Path
from types import ModuleType

import jax
import pdoc
import pdoc.render

from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.folders import new_folder, problem_of_replacing

PACKAGES = ("vidcomp_jax", "experiments", "converters")
ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Write the reference; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", metavar="DIR", type=Path, default=ROOT / "build" / "docs")
    options = parser.parse_args()
    jax.Array.__name__ = "Array"  # as in the sources' signatures, instead of jaxlib._jax.Array
    if options.output.exists() and (problem := problem_of_replacing(options.output, "reference")):
        sys.exit(f"error: {options.output}: {problem}; name another folder, or delete this one")
    names = module_names()
    for name in names:
        # Imported here, so that warnings raised by other libraries on import do not count below.
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            getattr(module, public)  # pdoc does not look for names that are imported on demand
        remove_generated_docstrings(module)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        pages = write(names, options.output)
    for warning in found:
        print(f"{warning.filename}:{warning.lineno}: {warning.message}", file=sys.stderr)
    if found:
        print(f"error: {len(found)} warnings, listed above", file=sys.stderr)
        return 1
    print(f"{pages} modules; start at {options.output / 'index.html'}")
    return 0


def module_names() -> list[str]:
    """Return the names of all modules that get a page."""
    names = list(PACKAGES)
    for package in PACKAGES:
        folder = str(Path(importlib.import_module(package).__file__ or "").parent)
        names += [found.name for found in pkgutil.walk_packages([folder], prefix=f"{package}.")]
    return names


def remove_generated_docstrings(module: ModuleType) -> None:
    """Clear the docstrings that Python generates for fields of a NamedTuple; the class docstring describes them."""
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields"):
            value.__new__.__doc__ = ""
            for field in value._fields:
                getattr(value, field).__doc__ = ""


def write(names: list[str], folder: Path) -> int:
    """Write the pages of the given modules to `folder`, replacing an earlier reference; return their number."""
    pdoc.render.configure(docformat="google", show_source=False)
    # pdoc finds the modules of a package by itself, unless the package defines __all__.
    listed = [name for name in names if hasattr(sys.modules[name.rpartition(".")[0] or name], "__all__")]
    try:
        with new_folder(folder, "reference", replace=True) as written:
            pdoc.pdoc(*dict.fromkeys([*PACKAGES, *listed]), output_directory=written)
    except InputError as error:
        sys.exit(f"error: {error}")
    return len(list(folder.rglob("*.html"))) - 1  # without the index


if __name__ == "__main__":
    sys.exit(main())
