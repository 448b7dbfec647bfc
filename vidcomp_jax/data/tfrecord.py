"""Reads TFRecord files with random access to records, verified checksums, and access to single features.

A record is stored as its length (8 bytes), a checksum of the length, the data, and a checksum of the data (4 bytes
each, CRC-32C). Following the lengths locates every record quickly; the records can then be read in any order, as
needed to shuffle a whole data set. The data are protocol buffers `tf.train.Example` or `SequenceExample`, whose
features (or context) have the same encoding; a feature is found without decoding the others.
"""

import os
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np
from jaxtyping import Float32

from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.untrusted import check_file

_HEADER, _FOOTER = 12, 4
_BYTES, _FLOATS = 0x0A, 0x12
"""Tags of a feature's list of byte strings and of floats; also of the first and second field of any message."""
_FIXED32 = 0x0D


class Record(NamedTuple):
    """The location of a record.

    Attributes:
        path: its file.
        number: its index in the file, from 0.
        offset, length: of its data, in bytes.
    """

    path: Path
    number: int
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.path} record {self.number}"

    def read(self) -> bytes:
        """The record's data.

        Raises:
            InputError: the checksum does not match, or the file has changed and is now too short.
        """
        data, stored = self.parts([(0, self.length), (self.length, self.length + _FOOTER)])
        if len(stored) < _FOOTER:
            raise InputError(f"{self}: the file is cut off in the middle of it")
        if _masked(google_crc32c.value(data)) != int.from_bytes(stored, "little"):
            raise InputError(f"{self}: damaged, its checksum does not match")
        return data

    def parts(self, spans: Iterable[tuple[int, int]]) -> list[bytes]:
        """Parts of the record's data, each from one offset to another; does not verify the checksum."""
        file = os.open(self.path, os.O_RDONLY)
        try:
            return [os.pread(file, end - start, self.offset + start) for start, end in spans]
        finally:
            os.close(file)


def find_records(path: Path) -> Iterator[Record]:
    """The records of a file in order; verifies their lengths, but not their data.

    Raises:
        InputError: the file is not a TFRecord file or has no records, or, when it is reached, a record has a damaged
            length or is cut off by the end of the file.
    """
    check_file(path)
    try:
        with path.open("rb", buffering=0) as file:
            size, offset, number = os.fstat(file.fileno()).st_size, 0, 0
            if not size:
                raise InputError(f"{path}: an empty file, where records are expected")
            while offset < size:
                header = os.pread(file.fileno(), _HEADER, offset)
                length, checksum = struct.unpack("<QI", header.ljust(_HEADER, b"\0"))
                record = Record(path, number, offset + _HEADER, length)
                if len(header) == _HEADER and _masked(google_crc32c.value(header[:8])) != checksum:
                    reason = "damaged, the checksum of its length does not match; what follows cannot be found"
                    raise InputError(f"{record}: {reason}" if number else f"{path}: not a TFRecord file, or {reason}")
                offset += _HEADER + length + _FOOTER
                if offset > size or len(header) < _HEADER:
                    raise InputError(f"{record}: the file is cut off in the middle of it")
                yield record
                number += 1
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None


class _Place(NamedTuple):
    """The location of a feature, from the start of its entry to the end of its value.

    Attributes:
        header: the bytes of the entry up to its value, which hold its name and its lengths.
        string: those up to the string, if the value is known to be a single one that ends where the value ends.
    """

    start: int
    header: bytes
    end: int
    string: bytes = b""


class Features:
    """The features of a record, found by name, without copying the data.

    Args:
        record: the record, for messages.
        data: the result of `record.read()`.
        like: features of another record. The records of a data set usually have their features at the same offsets,
            and trying these first is ten times faster than a search.

    Raises:
        InputError: the data are not a `tf.train.Example`.
    """

    def __init__(self, record: Record, data: bytes, like: "Features | None" = None):
        self._record, self._data = record, data
        self._places: dict[str, _Place] = {}
        self._guesses = like._places if like is not None and like._record.length == record.length else {}

    def byte_strings(self, name: str) -> list[memoryview]:
        """The byte strings of feature `name`."""
        start, end = self._value(name, _BYTES)
        return [view for tag, view in self._fields(start, end) if tag == _BYTES]

    def byte_string(self, name: str) -> memoryview:
        """The only byte string of feature `name`."""
        guess = self._guesses.get(name)
        if guess is not None and guess.string and self._data.startswith(guess.string, guess.start):
            start = guess.start + len(guess.string)
            return memoryview(self._data)[start : guess.end]
        strings = self.byte_strings(name)
        if len(strings) != 1:
            raise InputError(f"{self._record}: feature {name} holds {len(strings)} strings, one was expected")
        place = self._places[name]
        self._places[name] = place._replace(string=self._data[place.start : place.end - len(strings[0])])
        return strings[0]

    def byte_strings_of(self, record: Record, names: Sequence[str]) -> list[memoryview] | None:
        """The only byte strings of features of another record, which are read without the rest of that record.

        Returns None if the features are not where they are in this record. The checksum is not verified.
        """
        places = [self._places[name] for name in names if name in self._places]
        known = len(places) == len(names) and all(place.string for place in places)
        if not known or record.length != self._record.length:
            return None
        parts = record.parts((place.start, place.end) for place in places)
        for part, place in zip(parts, places, strict=True):
            if len(part) != place.end - place.start or not part.startswith(place.string):
                return None
        return [memoryview(part)[len(place.string) :] for part, place in zip(parts, places, strict=True)]

    def floats(self, name: str) -> Float32[np.ndarray, " n"]:
        """The floats of feature `name`."""
        start, end = self._value(name, _FLOATS)
        parts = [bytes(view) for tag, view in self._fields(start, end) if tag in (_BYTES, _FIXED32)]
        return np.frombuffer(b"".join(parts), "<f4")

    def names(self) -> Collection[str]:
        """The names of all features."""
        self._search()
        return self._places.keys()

    def _value(self, name: str, kind: int) -> tuple[int, int]:
        """Start and end of the feature's list of values."""
        place: _Place | None
        guess = self._guesses.get(name)
        if guess is not None and self._data.startswith(guess.header, guess.start):
            place = self._places[name] = guess
        else:
            self._search()
            place = self._places.get(name)
        if place is None:
            some = ", ".join(sorted(self._places)[:3]) or "none"
            raise InputError(
                f"{self._record}: no feature {name}; is it of another data set? Its first features are {some}"
            )
        start, end = place.start + len(place.header), place.end
        if start == end:
            return start, end
        try:
            tag, view_start, view_end = next(self._spans(start, end))
        except (IndexError, StopIteration):
            raise self._malformed() from None
        if tag != kind:
            raise InputError(f"{self._record}: feature {name} is not of {'bytes' if kind == _BYTES else 'floats'}")
        return view_start, view_end

    def _search(self) -> None:
        """Locate every feature."""
        try:
            for tag, features_start, features_end in self._spans(0, len(self._data)):
                if tag != _BYTES:
                    continue
                for _, start, end in self._spans(features_start, features_end):
                    fields = list(self._spans(start, end))
                    if len(fields) == 2 and (fields[0][0], fields[1][0]) == (_BYTES, _FLOATS):
                        (_, name_start, name_end), (_, value_start, value_end) = fields
                        name = self._data[name_start:name_end].decode()
                        self._places.setdefault(name, _Place(start, self._data[start:value_start], value_end))
        except (IndexError, UnicodeDecodeError):
            raise self._malformed() from None

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, memoryview]]:
        view = memoryview(self._data)
        try:
            for tag, first, last in self._spans(start, end):
                yield tag, view[first:last]
        except IndexError:
            raise self._malformed() from None

    def _spans(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Tag, start and end of every field of the message from `start` to `end`; IndexError if it is none."""
        data = self._data
        while start < end:
            tag = data[start]
            if tag == _FIXED32:
                first, last = start + 1, start + 5
            elif tag & 7 == 2:  # its length follows, seven bits a byte
                first, length, shift = start + 1, 0, 0
                while data[first] & 0x80:
                    length |= (data[first] & 0x7F) << shift
                    first, shift = first + 1, shift + 7
                length |= data[first] << shift
                first += 1
                last = first + length
            else:
                raise IndexError
            if last > end:
                raise IndexError
            yield tag, first, last
            start = last

    def _malformed(self) -> InputError:
        return InputError(f"{self._record}: not a tf.train.Example; is it of another data set?")


def _masked(checksum: int) -> int:
    """A CRC-32C in the masked form that TFRecord files store."""
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF
