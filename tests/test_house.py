"""Rules for the code: which folder may import which, and where work is mapped over devices."""

import ast
import graphlib
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
ORDER = [
    *(
        "exports",
        "errors",
        "background",
        "devices",
        "metrics",
        "storage",
        "media",
        "data",
        "nn",
        "replicas",
        "training",
    ),
    *("fomm", "motion", "inbetween", "completion", "evaluation"),
]
"""The folders and modules directly in `vidcomp_jax`; each may import only from itself and those before it."""


def name_of(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted((ROOT / "vidcomp_jax").rglob("*.py"))}


def is_module(name: str) -> bool:
    return ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file()


def imports_of(path: pathlib.Path) -> set[str]:
    """Return the names of the modules that a file imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno}: a relative import"
            # `from package import name` imports a module if the package has one of that name.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if is_module(name) else node.module for name in names}
    return found


IMPORTS = {name: imports_of(path) for name, path in MODULES.items()}


def place(module: str) -> int:
    """Return the index in `ORDER` of a module's folder; the package itself, which imports from all, comes last."""
    _, *parts = module.split(".")
    return ORDER.index(parts[0]) if parts else len(ORDER)


def test_folders_import_only_from_those_before_them():
    wrong = [
        f"{module} imports {name}"
        for module, imported in IMPORTS.items()
        for name in sorted(imported & MODULES.keys())
        if place(name) > place(module)
    ]
    assert not wrong


def test_the_library_imports_no_command_and_no_test():
    outside = {"experiments", "converters", "benchmarks", "tests"}
    wrong = [
        f"{module} imports {name}"
        for module, imported in IMPORTS.items()
        for name in sorted(imported)
        if name.split(".")[0] in outside
    ]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: imported & MODULES.keys() for name, imported in IMPORTS.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_one_file_maps_over_devices():
    def maps(path: pathlib.Path) -> bool:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        imported = {node.name for node in nodes if isinstance(node, ast.alias)}
        return "pmap" in used | imported

    folders = ("vidcomp_jax", "experiments", "converters", "benchmarks")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert [name_of(path) for path in files if maps(path)] == ["vidcomp_jax.training.step"]


def test_one_module_imports_tensorflow():
    """With PyTorch's CUDA builds, TensorFlow imported in another way can end the process later."""
    folders = ("vidcomp_jax", "experiments", "converters", "benchmarks", "tools", "tests")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [name_of(path) for path in files if "tensorflow" in imports_of(path)]
    assert found == ["vidcomp_jax.data.lazy_tensorflow"]


def test_one_module_catches_whatever_a_parser_raises():
    """Others may catch broadly only what they raise again, or hand on to another process or thread."""

    def swallows(path: pathlib.Path) -> bool:
        handlers = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ExceptHandler)]
        broad = [x for x in handlers if x.type is None or getattr(x.type, "id", "") in ("Exception", "BaseException")]
        return any(not isinstance(node, ast.Raise) for x in broad for node in x.body[-1:])

    files = [path for folder in ("vidcomp_jax", "experiments", "converters") for path in (ROOT / folder).rglob("*.py")]
    found = {name_of(path) for path in files if swallows(path)}
    assert found == {"vidcomp_jax.devices", "vidcomp_jax.data.reader_process"}


def test_no_test_module_is_imported():
    """Tests share helpers in `tests.support`, and programs outside the tests do not use it."""
    tests = sorted((ROOT / "tests").rglob("*.py"))
    programs = [path for folder in ("benchmarks", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in [*tests, *programs]
        for name in sorted(imports_of(path))
        if name.split(".")[-1].startswith("test_") or (path in programs and name.split(".")[0] == "tests")
    ]
    assert not wrong


def test_only_the_tests_of_a_benchmark_import_it():
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name in sorted(imports_of(path))
        if name.split(".")[0] == "benchmarks" and not path.name.startswith("test_benchmarks_")
    ]
    assert not wrong
