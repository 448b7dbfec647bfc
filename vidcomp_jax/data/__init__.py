"""Reads video data sets, and makes training batches of them.

`open_clips(DataConfig(...), "train")` opens a data set as `Clips`; `pairs` and `windows` make batches of its
uint8 frames for training, and `prepare_pairs` and `prepare_frames` what networks are trained on, on the devices.
Neither importing this package nor reading with it imports TensorFlow.
"""

from typing import TYPE_CHECKING

from vidcomp_jax.exports import on_demand

if TYPE_CHECKING:
    from vidcomp_jax.data.augment import AugmentationConfig
    from vidcomp_jax.data.bair import BairClips, BairConfig
    from vidcomp_jax.data.bair_parse import bair_record_files, parse_bair
    from vidcomp_jax.data.batches import Pair, pairs, windows
    from vidcomp_jax.data.clips import ArrayClips, Clips, Split
    from vidcomp_jax.data.datasets import DataConfig, as_stored, open_clips
    from vidcomp_jax.data.folder import FolderConfig
    from vidcomp_jax.data.kth import KthConfig
    from vidcomp_jax.data.lazy_tensorflow import import_tensorflow
    from vidcomp_jax.data.prepare import prepare_frames, prepare_pairs
    from vidcomp_jax.data.synthetic import SyntheticClips, SyntheticConfig
    from vidcomp_jax.data.tf_datasets import iterate_numpy, pair_dataset, trajectory_dataset, window_dataset

__all__ = [
    "ArrayClips",
    "AugmentationConfig",
    "BairClips",
    "BairConfig",
    "Clips",
    "DataConfig",
    "FolderConfig",
    "KthConfig",
    "Pair",
    "Split",
    "SyntheticClips",
    "SyntheticConfig",
    "as_stored",
    "bair_record_files",
    "import_tensorflow",
    "iterate_numpy",
    "open_clips",
    "pair_dataset",
    "pairs",
    "parse_bair",
    "prepare_frames",
    "prepare_pairs",
    "trajectory_dataset",
    "window_dataset",
    "windows",
]

__getattr__, __dir__ = on_demand(
    __name__,
    {
        "augment": ("AugmentationConfig",),
        "bair": ("BairClips", "BairConfig"),
        "bair_parse": ("bair_record_files", "parse_bair"),
        "batches": ("Pair", "pairs", "windows"),
        "clips": ("ArrayClips", "Clips", "Split"),
        "datasets": ("DataConfig", "as_stored", "open_clips"),
        "folder": ("FolderConfig",),
        "kth": ("KthConfig",),
        "lazy_tensorflow": ("import_tensorflow",),
        "prepare": ("prepare_frames", "prepare_pairs"),
        "synthetic": ("SyntheticClips", "SyntheticConfig"),
        "tf_datasets": ("iterate_numpy", "pair_dataset", "trajectory_dataset", "window_dataset"),
    },
)
