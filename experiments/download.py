"""Download a data set: `python -m experiments.download --dataset=kth`.

Fetches the published files to `$VIDCOMP_DATA/kth`, or `data/kth`, where the other commands look for them, and checks
the data set as `experiments.check_data` does. Says first how much there is to download and how much space is free. The
same command goes on with a download that broke off. The exit code is that of `experiments.check_data`.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from experiments import check_data
from experiments.commands import run
from vidcomp_jax.data.bair_files import DOWNLOAD
from vidcomp_jax.data.datasets import usual_places
from vidcomp_jax.data.download import (
    PUBLISHED,
    Remote,
    bytes_of_earlier_try,
    check_space,
    download,
    free_space,
    look_up,
    part_of,
    readable,
    unpack_bair,
)
from vidcomp_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """Download a data set and check it."""

    dataset: Literal["kth", "bair"] = "kth"
    """Data set to download: KTH (six archives, about 1.2 GB) or BAIR (one archive of about 30 GB, which needs as much
    space again when it is unpacked)."""
    output: Path | None = None
    """Folder to download to; by default $VIDCOMP_DATA/kth, or data/kth, and so on. Give it to the other commands as
    --data-dir if it is another one."""
    url: str = ""
    """Address of a mirror, the folder that holds the files; by default that of the authors."""
    keep_archive: bool = False
    """Keep the archive of BAIR after it is unpacked."""


def main(config: DownloadConfig) -> int:
    """Download what is missing, check the data set, and return the exit code."""
    output = config.output or usual_places(config.dataset)[0]
    if output.exists() and not output.is_dir():
        raise InputError(f"`output` is {output}, which is a file; it must be a folder")
    if config.dataset == "bair" and (output / DOWNLOAD).is_dir():
        print(f"{output / DOWNLOAD} is here already")
    else:
        _fetch(config, output)
        if config.dataset == "bair":
            archive = output / PUBLISHED["bair"].files[0]
            print(f"unpacking {archive}", flush=True)
            unpack_bair(archive, output)
            if not config.keep_archive:
                archive.unlink()
    preset = check_data.PRESETS[config.dataset]
    data = dataclasses.replace(preset.data, data_dir=output)
    sheet, card = output / "contact_sheet.png", output / "data_card.md"
    return check_data.main(dataclasses.replace(preset, data=data, contact_sheet=sheet, data_card=card))


def _fetch(config: DownloadConfig, output: Path) -> None:
    """Download all files that are missing."""
    published = PUBLISHED[config.dataset]
    folder = (config.url or published.url).rstrip("/")
    missing: list[tuple[Remote, Path]] = []
    for name in published.files:
        if (output / name).exists():
            print(f"{output / name} is here already")
        else:
            missing.append((look_up(f"{folder}/{name}"), output / name))
    if not missing:
        return
    output.mkdir(parents=True, exist_ok=True)
    total = sum(remote.size or 0 for remote, _ in missing)
    here = sum(bytes_of_earlier_try(remote, path) for remote, path in missing)
    unknown = any(remote.size is None for remote, _ in missing)
    size = f"{'at least ' if unknown else ''}{readable(total)}"
    earlier = f", of which {readable(here)} are here already" if here else ""
    free = readable(free_space(output))
    print(f"{len(missing)} files from {folder}, {size}{earlier}; {free} are free in {output}", flush=True)
    check_space(output, total - here, "to download the rest" if here else "to download them")
    for _, path in missing:
        part_of(path).touch()  # until all files are there, the folder holds an unfinished download
    for remote, path in missing:
        with tqdm(total=remote.size, desc=path.name, unit="B", unit_scale=True, mininterval=1) as bar:
            download(remote, path, lambda count, bar=bar: bar.update(count))  # type: ignore[misc] # bound at once


if __name__ == "__main__":
    run(main, DownloadConfig)
