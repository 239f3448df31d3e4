"""A second reading of the same bits, as plain as possible: absolute positions, no rules, everything expanded.

It shares no code with ``common.signals`` and checks nothing; it answers what the bits say where they are long enough.
"""

from __future__ import annotations

from typing import Any

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
PURPOSES_AT = 152  # 6+36+36+12+12+6+12+12+6+1+1+12
WIDE = {"usnat": {1: (9, 12, 2), 2: (9, 16, 3)}}


def bits_of(segment: str) -> str:
    return "".join(bin(64 + ALPHABET.index(char))[3:] for char in segment)


def text_of(bits: str) -> str:
    return "".join(ALPHABET[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))


def number(bits: str, at: int, width: int) -> int:
    return int(bits[at : at + width], 2)


def vendors(bits: str, at: int) -> tuple[set[int], int]:
    """A vendor section: ids, and where it ends."""
    greatest = number(bits, at, 16)
    if bits[at + 16] == "0":
        field = bits[at + 17 : at + 17 + greatest]
        return {i + 1 for i in range(greatest) if field[i] == "1"}, at + 17 + greatest
    return id_list(bits, at + 17)


def id_list(bits: str, at: int) -> tuple[set[int], int]:
    count, at, found = number(bits, at, 12), at + 12, set[int]()
    for _ in range(count):
        if bits[at] == "1":
            found |= set(range(number(bits, at + 1, 16), number(bits, at + 17, 16) + 1))
            at += 33
        else:
            found.add(number(bits, at + 1, 16))
            at += 17
    return found, at


def purposes(text: str) -> set[int]:
    """Purposes whose own bit is 1."""
    bits = bits_of(text.split(".", maxsplit=1)[0])
    return {i + 1 for i, bit in enumerate(bits[PURPOSES_AT : PURPOSES_AT + 24]) if bit == "1"}


def tc_string(text: str) -> dict[str, Any]:
    """What a TC string says; raises whatever Python raises where it is too short."""
    core, *others = text.split(".")
    bits = bits_of(core)
    consented, at = vendors(bits, 213)
    _, at = vendors(bits, at)
    entries, at = number(bits, at, 12), at + 12
    restrictions = []
    for _ in range(entries):
        restricted, end = id_list(bits, at + 8)
        restrictions.append((number(bits, at, 6), number(bits, at + 6, 2), restricted))
        at = end
    disclosed = None
    for other in others:
        segment = bits_of(other)
        if segment.startswith("001"):
            disclosed, _ = vendors(segment, 3)
    return {
        "created": number(bits, 6, 36) / 10,
        "last_updated": number(bits, 42, 36) / 10,
        "cmp_id": number(bits, 78, 12),
        "policy_version": number(bits, 132, 6),
        "purposes": purposes(text),
        "vendors": consented,
        "restrictions": restrictions,
        "disclosed": disclosed,
    }


def answers(core: str, counts: list[int]) -> list[list[int]]:
    """Two-bit answers after the version of a US section, in groups of these sizes."""
    bits, at, found = bits_of(core), 6, list[list[int]]()
    for count in counts:
        found.append([number(bits, at + 2 * i, 2) for i in range(count)])
        at += 2 * count
    return found
