"""Tables of the privacy ledger, format 2, and the triggers by which nothing in them is ever lowered.

Compact: what devices have in common is written once. A *charge* is one cause on one day with its releases; an *entry*
says that a device was charged for it (about a dozen bytes); *spend* is what each device has spent so far in a period,
so that a budget query reads a handful of rows however long the history is.
"""

from __future__ import annotations

from typing import Final

FORMAT: Final = 2
SCHEMA: Final = """
CREATE TABLE devices (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE uses (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, description TEXT NOT NULL, UNIQUE (kind, description)) STRICT;
CREATE TABLE charges (
    id INTEGER PRIMARY KEY, cause TEXT NOT NULL, period INTEGER NOT NULL, day INTEGER NOT NULL,
    randomness TEXT NOT NULL, devices INTEGER NOT NULL, members BLOB NOT NULL, seal BLOB NOT NULL,
    UNIQUE (cause, period, day, randomness)) STRICT;
CREATE INDEX charges_by_period ON charges (period);
CREATE TABLE releases (
    charge INTEGER NOT NULL REFERENCES charges(id) ON DELETE CASCADE, position INTEGER NOT NULL,
    use INTEGER NOT NULL REFERENCES uses(id), times INTEGER NOT NULL, epsilon REAL NOT NULL, rho REAL,
    delta REAL NOT NULL, PRIMARY KEY (charge, position)) STRICT, WITHOUT ROWID;
CREATE TABLE entries (
    charge INTEGER NOT NULL REFERENCES charges(id), device INTEGER NOT NULL REFERENCES devices(id),
    settled INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (charge, device)) STRICT, WITHOUT ROWID;
CREATE TABLE spend (
    device INTEGER NOT NULL REFERENCES devices(id), period INTEGER NOT NULL,
    use INTEGER NOT NULL REFERENCES uses(id), times INTEGER NOT NULL,
    PRIMARY KEY (device, period, use)) STRICT, WITHOUT ROWID;
CREATE TABLE denials (
    id INTEGER PRIMARY KEY, cause TEXT NOT NULL, purpose TEXT NOT NULL, day INTEGER NOT NULL, unit TEXT NOT NULL,
    bound TEXT NOT NULL, epsilon_would_be REAL NOT NULL, epsilon_max REAL NOT NULL,
    UNIQUE (cause, purpose, day, unit, bound, epsilon_would_be, epsilon_max)) STRICT;
CREATE TABLE refused (
    denial INTEGER NOT NULL REFERENCES denials(id), device INTEGER NOT NULL REFERENCES devices(id),
    PRIMARY KEY (denial, device)) STRICT, WITHOUT ROWID;
CREATE TABLE exhausted (period INTEGER PRIMARY KEY, day INTEGER NOT NULL) STRICT;
CREATE TABLE chain (
    sequence INTEGER PRIMARY KEY, what TEXT NOT NULL, root BLOB NOT NULL, link BLOB NOT NULL) STRICT;
CREATE TRIGGER a_use_is_never_changed BEFORE UPDATE ON uses
BEGIN SELECT RAISE(ABORT, 'a charge is never changed'); END;
CREATE TRIGGER a_charge_is_never_changed BEFORE UPDATE OF id, cause, period, day, randomness ON charges
BEGIN SELECT RAISE(ABORT, 'a charge is never changed'); END;
CREATE TRIGGER a_release_is_never_changed BEFORE UPDATE ON releases
BEGIN SELECT RAISE(ABORT, 'a charge is never changed'); END;
CREATE TRIGGER a_release_is_never_dropped BEFORE DELETE ON releases
WHEN EXISTS (SELECT 1 FROM entries WHERE charge = OLD.charge)
BEGIN SELECT RAISE(ABORT, 'a charge is never dropped'); END;
CREATE TRIGGER an_entry_is_never_changed BEFORE UPDATE ON entries
WHEN NEW.charge <> OLD.charge OR NEW.device <> OLD.device OR NEW.settled <> 1
BEGIN SELECT RAISE(ABORT, 'a charge is never changed'); END;
CREATE TRIGGER spend_is_never_lowered BEFORE UPDATE ON spend
WHEN NEW.times < OLD.times OR NEW.device <> OLD.device OR NEW.period <> OLD.period OR NEW.use <> OLD.use
BEGIN SELECT RAISE(ABORT, 'spend is never lowered'); END;
CREATE TRIGGER spend_of_the_running_period_is_never_dropped BEFORE DELETE ON spend
WHEN OLD.period >= (
    SELECT MAX(p) FROM (SELECT MAX(period) AS p FROM charges UNION ALL SELECT MAX(period) FROM exhausted))
BEGIN SELECT RAISE(ABORT, 'spend is never lowered'); END;
CREATE TRIGGER an_exhausted_period_stays_so BEFORE DELETE ON exhausted
BEGIN SELECT RAISE(ABORT, 'spend is never lowered'); END;
CREATE TRIGGER a_link_is_never_changed BEFORE UPDATE ON chain
BEGIN SELECT RAISE(ABORT, 'the chain is never changed'); END;
CREATE TRIGGER a_link_is_never_dropped BEFORE DELETE ON chain
BEGIN SELECT RAISE(ABORT, 'the chain is never changed'); END
"""
ASKED: Final = "CREATE TEMP TABLE asked (device INTEGER PRIMARY KEY)"
