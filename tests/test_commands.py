"""Messages name fields in the library and options at the command line; the library needs no command-line parser."""

import os
import pathlib
import platform
import subprocess
import sys

import pytest

from experiments import tuning
from experiments.commands import parse, run
from experiments.configs import CONFIGS, TrainFOMMConfig
from experiments.options import name_options, options_of
from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.config import load_config, save_config
from vidcomp_jax.training.config import TrainConfig

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("field", "option"),
    [
        ("workdir", "--workdir"),
        ("train.num_steps", "--num-steps"),
        ("data.kth.num_frames", "--kth.num-frames"),
        ("data.bair.camera", "--camera"),
        ("optimizer.detector.learning_rate", "--optimizer.detector.learning-rate"),
    ],
)
def test_options_are_those_of_the_parser(field, option, capsys):
    assert options_of(TrainFOMMConfig)[field] == option
    with pytest.raises(SystemExit):
        parse(TrainFOMMConfig, ["--help"])
    assert f"{option} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("message", "arguments", "named"),
    [
        ("`data_dir` is missing", [], "--data-dir is missing"),
        ("`kth.split` or `data.kth.split`", [], "--kth.split or --kth.split"),
        ("`seed` is -1", [], "--seed is -1"),  # of several matching options, the one without a prefix
        ("`test_fraction` is 2", ["--folder.test-fraction=2"], "--folder.test-fraction is 2"),
        ("`test_fraction` is 2", [], "test_fraction is 2"),
        ("`no_field` is 2, see `make help`", [], "no_field is 2, see `make help`"),
    ],
)
def test_field_names_become_options(message, arguments, named):
    assert name_options(message, TrainFOMMConfig, arguments) == named


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--kth.num-frames=1", "--kth.num-frames is 1; "),
        ("--clip-list.test-fraction=1", "--clip-list.test-fraction is 1.0; "),
        ("--size=5", "--size is 5; "),
        ("--num-channels=3", "--fomm.num-channels is 1; it must be equal to --num-channels, 3"),
    ],
)
def test_a_refused_value_is_reported_under_its_option(argument, says):
    with pytest.raises(InputError) as error:
        parse(TrainFOMMConfig, [argument], CONFIGS)
    assert str(error.value).startswith(says)


def test_a_message_of_the_library_ends_as_options_on_standard_error(monkeypatch, capsys):
    def main(config: TrainFOMMConfig):
        raise InputError(f"`data_dir` is {config.data.data_dir}")

    monkeypatch.setattr(sys, "argv", ["command", "--data-dir=videos"])
    with pytest.raises(SystemExit) as end:
        run(main, TrainFOMMConfig, CONFIGS)
    assert (end.value.code, capsys.readouterr().err) == (2, "error: --data-dir is videos\n")


def test_values_of_a_file_are_not_reported_as_options(tmp_path):
    path = tmp_path / "config.json"
    save_config(path, CONFIGS["synthetic"])
    path.write_text(path.read_text().replace('"size": 64', '"size": 5'))
    with pytest.raises(InputError, match=r"size is 5; it must be") as error:
        load_config(path, TrainFOMMConfig)
    assert "`" not in str(error.value)


def test_zero_stands_for_none_at_the_command_line_and_in_earlier_runs_alone(tmp_path):
    options = ["--dataset=synthetic", "--panel-every=0", "--evaluate-every=0", "--checkpoint-every=0"]
    config = parse(TrainFOMMConfig, options, CONFIGS)
    assert (config.train.panel_every, config.train.evaluate_every, config.train.checkpoint_every) == (None, None, None)
    path = tmp_path / "config.json"
    save_config(path, config)
    path.write_text(path.read_text().replace('"panel_every": null', '"panel_every": 0'))
    assert '"panel_every": 0' in path.read_text()
    assert load_config(path, TrainFOMMConfig) == config
    with pytest.raises(InputError, match="`panel_every` is 0; it must be at least 1"):
        TrainConfig(panel_every=0)


def test_importing_the_library_loads_no_parser_and_no_tensorflow():
    packages = sorted({path.parent.relative_to(ROOT) for path in (ROOT / "vidcomp_jax").rglob("*.py")})
    modules = [str(path.relative_to(ROOT).with_suffix("")) for path in (ROOT / "vidcomp_jax").rglob("*.py")]
    names = [*map(str, packages), *(name for name in modules if not name.endswith("__init__"))]
    code = "import sys; " + "; ".join(f"import {name.replace('/', '.')}" for name in names)
    code += "; print(sorted({name.partition('.')[0] for name in sys.modules} & {'tyro', 'tensorflow'}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_home_that_cannot_be_written_to_means_no_compilation_cache(tmp_path):
    no_folder = tmp_path / "file"
    no_folder.touch()
    for home, expected in ((no_folder, "None"), (tmp_path, str(tmp_path / ".cache" / "vidcomp_jax" / "jax"))):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XDG_"))}
        code = (
            "from experiments import commands; import jax; commands._keep_compiled_programs(); "
            "print(jax.config.jax_compilation_cache_dir)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=kept | {"HOME": str(home)}, capture_output=True, text=True
        )
        assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize(
    ("given", "version", "expected"),
    [
        (None, "0.10.2", "--xla_cpu_use_fusion_emitters=false"),
        ("--xla_a=1", "0.10.0", "--xla_cpu_use_fusion_emitters=false --xla_a=1"),
        ("--xla_cpu_use_fusion_emitters=true", "0.10.2", "--xla_cpu_use_fusion_emitters=true"),
        ("--xla_a=1", "0.11.0", "--xla_a=1"),
    ],
)
def test_a_flag_of_xla_is_set_where_it_is_known_and_not_given(monkeypatch, given, version, expected):
    monkeypatch.setattr("jaxlib.version.__version__", version)
    monkeypatch.setenv("XLA_FLAGS", given or "")
    tuning.compile_faster_on_cpus()
    assert os.environ["XLA_FLAGS"] == expected


@pytest.mark.parametrize(
    ("platforms", "plugins", "expected"),
    [(None, [], True), (None, ["xla_cuda12"], False), ("cpu", ["xla_cuda12"], True), ("cuda,cpu", [], False)],
)
def test_memory_is_kept_where_jax_has_only_cpus(monkeypatch, platforms, plugins, expected):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: plugins if group == "jax_plugins" else None)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    if platforms is not None:
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert tuning.only_cpus() == expected


def test_kept_memory_is_not_mapped_again():
    code = """if True:
        import resource, sys, threading
        import numpy as np
        from experiments.tuning import keep_memory

        kept = sys.argv[1] == "yes" and keep_memory()
        faults = []

        def work():
            for _ in range(4):
                np.ones(2**23)
                faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        print(int(kept), faults[3] - faults[1])
    """
    runs = ([sys.executable, "-c", code, keep] for keep in ("yes", "no"))
    outputs = (subprocess.run(each, cwd=ROOT, capture_output=True, check=True).stdout.split() for each in runs)
    (kept, few), (_, many) = (map(int, output) for output in outputs)
    assert kept == (platform.libc_ver()[0] == "glibc")  # other systems cannot be told to
    assert not kept or few < many / 10
