"""Gives packages their public names without importing the modules behind them until a name is used.

A process that only reads data then starts without JAX, and `import vidcomp_jax` takes no time.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any


def on_demand(package: str, names: Mapping[str, Collection[str]]) -> tuple[Callable[[str], Any], Callable[[], list]]:
    """The functions `__getattr__` and `__dir__` of a package.

    Args:
        package: its name.
        names: the public names by the module, relative to the package, that defines them.
    """
    places = {name: f"{package}.{module}" for module, group in names.items() for name in group}

    def get(name: str) -> Any:
        if name in places:
            value = getattr(importlib.import_module(places[name]), name)
        elif not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}") is not None:
            for module in {*places.values(), f"{package}.{name}"}:  # so that modules below it are there as well
                importlib.import_module(module)
            return sys.modules[f"{package}.{name}"]
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def names_of() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places})

    return get, names_of
