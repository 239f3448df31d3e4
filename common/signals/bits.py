"""Strict reading of base64url bit strings. Owns every bound check; a reader that runs out of bits never returns one.

Source: IAB TCF v2 string specification and GPP string specification, "Section encoding" (data types).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from common.errors import UndecodableSignal
from common.taxonomy import SignalReason

TEXT_MAX: Final = 16_384
"""Longest string that is looked at, in characters; the longest real ones have some thousands."""

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_BITS: Final = {ord(char): format(value, "06b") for value, char in enumerate(_ALPHABET)}
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)
_ONES: Final = re.compile("1+")
_FIBONACCI_BITS_MAX: Final = 24
_LETTERS: Final = 26


@dataclass(frozen=True, slots=True)
class Ids:
    """A set of ids as inclusive ranges: as small as its encoding, however wide the ranges are."""

    ranges: tuple[tuple[int, int], ...] = ()

    def __contains__(self, number: int) -> bool:
        """Whether the set holds this id."""
        return any(first <= number <= last for first, last in self.ranges)

    def __bool__(self) -> bool:
        """Whether the set holds anything."""
        return bool(self.ranges)


class BitReader:
    """Reads one segment from left to right.

    Every method raises ``UndecodableSignal`` with ``TRUNCATED`` where the bits end too early.
    """

    def __init__(self, text: str) -> None:
        """Take a segment of base64url characters, without padding characters.

        Raises:
            UndecodableSignal: too long, or a character outside the alphabet.
        """
        if len(text) > TEXT_MAX:
            raise UndecodableSignal(SignalReason.TOO_LONG)
        if _FOREIGN.search(text):
            raise UndecodableSignal(SignalReason.BAD_ALPHABET)
        self._bits, self._at = text.translate(_BITS), 0

    def integer(self, width: int) -> int:
        """An unsigned integer, most significant bit first."""
        return int(self._take(width), 2)

    def flag(self) -> bool:
        """One bit."""
        return self._take(1) == "1"

    def positions(self, width: int) -> frozenset[int]:
        """A bit field as the 1-based positions of its ones."""
        return frozenset(at for at, bit in enumerate(self._take(width), 1) if bit == "1") if width else frozenset()

    def bit_field(self, width: int) -> Ids:
        """A bit field of ids as ranges; id 1 comes first."""
        found = _ONES.finditer(self._take(width)) if width else ()
        return Ids(tuple((ones.start() + 1, ones.end()) for ones in found))

    def letters(self, count: int) -> str:
        """Capital letters of six bits each.

        Raises:
            UndecodableSignal: a value beyond Z.
        """
        values = [self.integer(6) for _ in range(count)]
        if max(values, default=0) >= _LETTERS:
            raise UndecodableSignal(SignalReason.BAD_VALUE)
        return "".join(chr(ord("A") + value) for value in values)

    def ranges(self, last_id: int) -> Ids:
        """A list of ids and ranges, ``Range (Int)``: each of 16 bits, in any order.

        Args:
            last_id: greatest id allowed.

        Raises:
            UndecodableSignal: id 0, an id beyond ``last_id``, or a range that ends before it begins.
        """
        entries = tuple(self._range() for _ in range(self.integer(12)))
        if any(not 1 <= first <= last <= last_id for first, last in entries):
            raise UndecodableSignal(SignalReason.BAD_VALUE)
        return Ids(entries)

    def optimised_range(self) -> Ids:
        """Ids as a bit field or as ranges, whichever the encoder chose, under a declared greatest id."""
        last_id, as_ranges = self.integer(16), self.flag()
        return self.ranges(last_id) if as_ranges else self.bit_field(last_id)

    def fibonacci(self) -> int:
        """A positive integer in Fibonacci coding: the sum over the ones before the first ``11``.

        Raises:
            UndecodableSignal: no end within 24 bits.
        """
        end = self._bits.find("11", self._at, self._at + _FIBONACCI_BITS_MAX)
        if end < 0:
            raise UndecodableSignal(SignalReason.TRUNCATED)
        word = self._take(end + 2 - self._at)[:-1]
        value, lower, higher = 0, 1, 2
        for bit in word:
            value += lower if bit == "1" else 0
            lower, higher = higher, lower + higher
        return value

    def fibonacci_ranges(self, count_max: int) -> tuple[int, ...]:
        """Ids in ascending order, ``Range (Fibonacci)``: each an offset from the one before.

        Args:
            count_max: more ids than that are an error; nothing is expanded beyond it.

        Raises:
            UndecodableSignal: too many ids.
        """
        found: list[int] = []
        last = 0
        for _ in range(self.integer(12)):
            is_group = self.flag()
            first = last + self.fibonacci()
            last = first + self.fibonacci() if is_group else first
            if len(found) + last - first + 1 > count_max:
                raise UndecodableSignal(SignalReason.BAD_VALUE)
            found.extend(range(first, last + 1))
        return tuple(found)

    def finish(self) -> None:
        """End of the segment: only the padding that an encoder adds may follow, and all of it is zero.

        Encoders pad to characters, to bytes and then characters, or to groups of four characters.

        Raises:
            UndecodableSignal: anything else follows.
        """
        used, length = self._at, len(self._bits) // 6
        padded = {-(-used // 6), -(-(used + -used % 8) // 6), -(-used // 24) * 4}
        if length not in padded or "1" in self._bits[used:]:
            raise UndecodableSignal(SignalReason.TRAILING)

    def _range(self) -> tuple[int, int]:
        is_group, first = self.flag(), self.integer(16)
        return first, self.integer(16) if is_group else first

    def _take(self, width: int) -> str:
        taken = self._bits[self._at : self._at + width]
        if len(taken) < width:
            raise UndecodableSignal(SignalReason.TRUNCATED)
        self._at += width
        return taken
