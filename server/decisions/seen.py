"""What one transaction sees. Owns the reading of everything that a batch of decisions is checked against, in one go.

Raw statements on a bare connection: this is read for every batch, between the write lock and the commit. SQLite answers
in one row, which costs one switch between threads; PostgreSQL locks the people first, so that nobody's consent changes
before the commit, and reads in statements of their own after that, so that each sees what the lock has waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from common.taxonomy import AgeBand, ConsentState, ControlScope, Purpose
from policies.consent import ConsentFact, Permit, Refusal
from server.decisions.cursor import Cursor
from server.decisions.versions import Versions


@dataclass(slots=True)
class Person:
    """What is known of one person, as it stands in this transaction.

    Attributes:
        judged: the gate's last word on them: by what it was judged, whether a signal opposed, and the word.
    """

    app_id: str
    age_band: AgeBand
    jurisdiction: str
    objected: bool
    restricted: bool
    facts: dict[Purpose, ConsentFact]
    judged: tuple[Seen, bool, Permit | Refusal] | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that decisions depend on, as it stands in this transaction.

    Attributes:
        versions: of what is the same for everybody.
        purposes: purposes that are stopped everywhere.
        places: jurisdictions that are stopped.
        notices: digests of the notices whose grants still hold.
        keys: hashes of those of the API keys asked about that are still valid.
        people: by handle, those of them that exist.
    """

    versions: Versions
    purposes: frozenset[Purpose]
    places: frozenset[str]
    notices: frozenset[str]
    keys: frozenset[str]
    people: Mapping[str, Person | None]

    def stopped(self, jurisdiction: str | None) -> frozenset[Purpose]:
        """Purposes that are stopped for somebody in a jurisdiction; None asks what is stopped for everybody."""
        if self.places and jurisdiction is not None and self.places & {jurisdiction, jurisdiction.partition("-")[0]}:
            return frozenset(Purpose)
        return self.purposes


_CATALOGUE: Final = "SELECT max(version) FROM catalogue_version"
_MODEL: Final = "SELECT max(version) FROM model_version"
_PLACEMENT: Final = "SELECT coalesce(max(version), 0) FROM placement_version"
_EXPERIMENT: Final = "SELECT digest FROM experiment_run WHERE stopped_at IS NULL AND starts_at <= {0} AND ends_at > {0}"
_CONTROLS: Final = "SELECT scope, target FROM control"
_NOTICES: Final = """
    SELECT digest FROM notice
    WHERE version >= coalesce((SELECT max(version) FROM notice WHERE material), 0)"""
_PERSON: Final = "s.handle, s.app_id, s.age_band, s.jurisdiction, s.objected, s.restricted"
_FACT: Final = "c.purpose, c.state, c.event_time, c.valid_until, c.notice_digest, c.opposed"

_SQLITE: Final = f"""
SELECT
    ({_CATALOGUE}),
    ({_MODEL}),
    ({_PLACEMENT}),
    ({_EXPERIMENT.format("?")}),
    (SELECT json_group_array(json_array(scope, target)) FROM ({_CONTROLS})),
    (SELECT json_group_array(digest) FROM ({_NOTICES})),
    (SELECT json_group_array(k.key_hash) FROM json_each(?) AS w JOIN api_key AS k ON k.key_hash = w.value
     WHERE k.revoked_at IS NULL AND k.expires_at > ?),
    (SELECT json_group_array(json_array({_PERSON}, {_FACT})) FROM json_each(?) AS w
     JOIN subject AS s ON s.handle = w.value LEFT JOIN consent_state AS c ON c.handle = s.handle)
"""  # noqa: S608 - made of the constants above
_NUMBERS: Final = f"SELECT ({_CATALOGUE}), ({_MODEL}), ({_PLACEMENT}), ({_EXPERIMENT.format('%s')})"
_LOCK: Final = "SELECT handle FROM subject WHERE handle = ANY(%s) ORDER BY handle FOR SHARE"
_KEYS: Final = "SELECT key_hash FROM api_key WHERE key_hash = ANY(%s) AND revoked_at IS NULL AND expires_at > %s"
_PEOPLE: Final = f"""
    SELECT {_PERSON}, {_FACT} FROM subject AS s LEFT JOIN consent_state AS c ON c.handle = s.handle
    WHERE s.handle = ANY(%s)"""  # noqa: S608 - made of the constants above

_PEOPLE_HELD: Final = 100_000
_encode = msgspec.json.Encoder().encode
_pairs = msgspec.json.Decoder(list[tuple[str, str]]).decode
_texts = msgspec.json.Decoder(list[str]).decode
_people = msgspec.json.Decoder(list[list[Any]]).decode
_PURPOSES: Final = {purpose.value: purpose for purpose in Purpose}
_STATES: Final = {state.value: state for state in ConsentState}
_BANDS: Final = {band.value: band for band in AgeBand}


def read_sqlite(cursor: Cursor, handles: Sequence[str], keys: Sequence[str], now: int) -> Seen:
    """Inside a transaction that holds the write lock, so that nothing of it can change before the commit."""
    wanted = (now, now, _encode(keys).decode(), now, _encode(handles).decode())
    *numbers, controls, notices, valid, people = cursor.execute(_SQLITE, wanted).fetchone()
    rows = _people(people) if handles else ()
    return _seen(numbers, _pairs(controls), _texts(notices), keys=_texts(valid), people=rows)


def read_postgresql(cursor: Cursor, handles: Sequence[str], keys: Sequence[str], now: int) -> Seen:
    """Changes of these people's consent wait from here to the end of the transaction."""
    people: Sequence[Any] = ()
    if handles:
        cursor.execute(_LOCK, (list(handles),)).fetchall()
        people = cursor.execute(_PEOPLE, (list(handles),)).fetchall()
    numbers = cursor.execute(_NUMBERS, (now, now)).fetchone()
    controls = cursor.execute(_CONTROLS).fetchall()
    notices = [row[0] for row in cursor.execute(_NOTICES).fetchall()]
    valid = [row[0] for row in cursor.execute(_KEYS, (list(keys), now)).fetchall()] if keys else []
    return _seen(numbers, controls, notices, keys=valid, people=people)


def _seen(
    numbers: Sequence[Any],
    controls: Iterable[Sequence[str]],
    notices: Iterable[str],
    *,
    keys: Iterable[str],
    people: Iterable[Sequence[Any]],
) -> Seen:
    stopped: dict[str, list[str]] = {scope.value: [] for scope in ControlScope}
    for scope, target in controls:
        stopped[scope].append(target)
    return Seen(
        Versions(numbers[0], numbers[1], frozenset(stopped[ControlScope.CAMPAIGN.value]), numbers[2], numbers[3]),
        frozenset(_PURPOSES[target] for target in stopped[ControlScope.PURPOSE.value]),
        frozenset(stopped[ControlScope.JURISDICTION.value]),
        frozenset(notices),
        frozenset(keys),
        _persons(people),
    )


def _persons(rows: Iterable[Sequence[Any]]) -> dict[str, Person]:
    """People from rows of one purpose each; somebody who never said anything has one without a purpose."""
    found: dict[str, Person] = {}
    for handle, app_id, age_band, jurisdiction, objected, restricted, purpose, *fact in rows:
        person = found.get(handle)
        if person is None:
            flags = (bool(objected), bool(restricted))
            person = found[handle] = Person(app_id, _BANDS[age_band], jurisdiction, *flags, {})
        if purpose is not None:
            state, event_time, valid_until, notice, opposed = fact
            person.facts[_PURPOSES[purpose]] = ConsentFact(
                _STATES[state], float(event_time), float(valid_until), notice, bool(opposed)
            )
    return found


class Remembered:
    """What one connection has read of an SQLite database, used again as long as nobody else has committed anything.

    SQLite tells a connection whether another one has committed (``PRAGMA data_version``). Asked inside a transaction
    that holds the write lock, "no" means that everything read before still stands, to the last row. It says nothing of
    the connection's own commits: this connection must write nothing that is remembered here, and nobody else may use
    it.
    """

    def __init__(self) -> None:
        self._mark, self._seen = -1, Seen(Versions(), frozenset(), frozenset(), frozenset(), frozenset(), {})
        self._second, self._keys = -1, set[str]()
        self._people: dict[str, Person | None] = {}

    def read(self, cursor: Cursor, handles: Sequence[str], keys: Sequence[str], now: int) -> Seen:
        """The same as ``read_sqlite``; what depends on the time is read anew every second."""
        mark = cursor.execute("PRAGMA data_version").fetchone()[0]
        if mark != self._mark or len(self._people) > _PEOPLE_HELD:
            self._people, self._second = {}, -1
        missing = [handle for handle in handles if handle not in self._people]
        if missing or now != self._second or not self._keys.issuperset(keys):
            found = read_sqlite(cursor, missing, keys, now)
            self._people.update(dict.fromkeys(missing))
            self._people.update(found.people)
            self._keys, self._second, self._mark = set(keys), now, mark
            self._seen = replace(found, people=self._people)
        return self._seen
