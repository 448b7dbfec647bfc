"""Reads your own videos from a folder: video files, folders of frames, or strips of frames.

`config.py` has the settings, `files.py` finds the videos and splits them, `decoding.py` reads and samples their frames,
`scenes.py` and `cutting.py` make clips of long videos, and `clips.py` opens them.
"""

from vidcomp_jax.data.folder.clips import FOLDER, open_folder
from vidcomp_jax.data.folder.config import FolderConfig
from vidcomp_jax.data.folder.files import find_sources, split_sources

__all__ = ["FOLDER", "FolderConfig", "find_sources", "open_folder", "split_sources"]
