"""What the owner has set about ads. Owns switched-off topics and the declared group: sealed, local, never sent."""

from __future__ import annotations

from typing import Final

import msgspec

from client.store.keys import DeviceId
from client.store.placed import NO_CHOICES, Choices
from client.store.placed_file import WHAT, PlacedFile
from common.errors import InputError, VaultCorrupt
from policies.placement.eligibility import folded

TAGS_MAX: Final = 200
TAG_CHARS_MAX: Final = 80
_KIND: Final = "choices"
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(Choices).decode


class ChoiceStore:
    """The choices of one node's devices."""

    def __init__(self, file: PlacedFile) -> None:
        """Use the node's file of placements."""
        self._file = file

    def read(self, device: DeviceId) -> Choices:
        """What is set; nothing for a device that has set nothing.

        Raises:
            DeviceErased, WrongKey: the device has no key (any more).
            VaultCorrupt: the record does not authenticate or decode.
        """
        with self._file.reading() as connection:
            row = connection and connection.execute("SELECT sealed FROM choices WHERE device = ?", (device,)).fetchone()
        if not row:
            return NO_CHOICES
        try:
            return _DECODE(self._file.seal_of(device, _KIND).open(row[0]))
        except msgspec.DecodeError:
            raise VaultCorrupt(f"{WHAT} holds a record that does not decode") from None

    def switch(self, device: DeviceId, tag: str, *, off: bool) -> Choices:
        """Switch a topic off or on again; what is set from now on.

        Raises:
            InputError: no tag, too long a one, or too many.
            DeviceErased, WrongKey, StoreError: nothing was changed.
        """
        name, held = folded(tag), self.read(device)
        if not name or len(name) > TAG_CHARS_MAX:
            raise InputError(f"a tag has 1 to {TAG_CHARS_MAX} characters")
        refused = tuple(sorted({*held.refused_tags, name} if off else {*held.refused_tags} - {name}))
        if len(refused) > TAGS_MAX:
            raise InputError(f"more than {TAGS_MAX} tags are switched off")
        return self._write(device, msgspec.structs.replace(held, refused_tags=refused))

    def declare(self, device: DeviceId, group: str) -> Choices:
        """Say which group the owner belongs to, or (empty) take that back.

        Raises:
            InputError: too long.
            DeviceErased, WrongKey, StoreError: nothing was changed.
        """
        if len(group) > TAG_CHARS_MAX:
            raise InputError(f"a group's name has at most {TAG_CHARS_MAX} characters")
        return self._write(device, msgspec.structs.replace(self.read(device), group=group.strip()))

    def _write(self, device: DeviceId, choices: Choices) -> Choices:
        sealed = self._file.seal_of(device, _KIND).close(_ENCODE(choices))
        with self._file.writing() as connection:
            connection.execute(
                "INSERT INTO choices VALUES (?1, ?2) ON CONFLICT (device) DO UPDATE SET sealed = ?2", (device, sealed)
            )
        return choices
