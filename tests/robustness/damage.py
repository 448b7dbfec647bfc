"""Damages files in every way that disks, downloads and editors do, and checks what reading them gives."""

import shutil
import tempfile
import traceback
from pathlib import Path
from typing import Protocol

from tests.robustness.readers import AVI, KINDS
from vidcomp_jax.errors import InputError

CASES = Path(__file__).parent / "cases"
"""Inputs that once ended in something else than a success or an `InputError`: files `KIND-DIGEST.bin`."""
_SPECIAL = (
    b"\0",
    b"\xff",
    b"\n",
    b"{",
    b"[" * 200,
    b"9" * 5000,
    b"1e999",
    b"NaN",
    b"\xed\xa0\x80",
    b"../",
    b"%s",
    b"-1",
)


class Draws(Protocol):
    """What `damaged` needs of a source of random numbers; `random.Random` has it."""

    def randrange(self, start: int, stop: int) -> int: ...


def whole(kind: str, folder: Path) -> bytes:
    """The bytes of a whole file of a kind, which is left in `folder`."""
    path = _place(kind, folder)
    KINDS[kind].write(path)
    return path.read_bytes()


def _place(kind: str, folder: Path) -> Path:
    """The path of a file of a kind in `folder`, with what must be beside it."""
    path = folder / KINDS[kind].name
    path.parent.mkdir(parents=True, exist_ok=True)
    if KINDS[kind].beside:
        shutil.copy(AVI, path.parent / KINDS[kind].beside)
    return path


def damaged(data: bytes, random: Draws) -> bytes:
    """`data`, cut off, with bytes flipped, inserted, removed, zeroed or repeated, up to three times."""
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(0, len(data) + 1)
        length = random.randrange(1, 9)
        how = random.randrange(0, 7)
        if how == 0:
            data = data[:place]
        elif how in (1, 2) and data:  # most often, because it is what passes the first checks of a parser
            place = min(place, len(data) - 1)
            data = data[:place] + bytes([data[place] ^ (1 << random.randrange(0, 8))]) + data[place + 1 :]
        elif how == 3:
            data = data[:place] + _SPECIAL[random.randrange(0, len(_SPECIAL))] + data[place:]
        elif how == 4:
            data = data[:place] + data[place + length :]
        elif how == 5:
            data = data[:place] + bytes(min(length, len(data) - place)) + data[place + length :]
        else:
            data = data[:place] + data[place : place + length] * 3 + data[place + length :]
    return data


def problem_of(kind: str, data: bytes) -> str:
    """What is wrong with how `data` is read as a file of a kind; empty after a success or a one-line `InputError`."""
    with tempfile.TemporaryDirectory() as temporary:
        path = _place(kind, Path(temporary))
        path.write_bytes(data)
        try:
            KINDS[kind].read(path)
        except InputError as error:
            text = str(error)
            if "\n" in text or not text.isprintable():
                return f"a message that is not one printable line: {text!r}"
        except BaseException:
            return traceback.format_exc()
    return ""
