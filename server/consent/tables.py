"""Tables of subjects, notices and consent. Owns their columns: no name, address, e-mail or IP has a place here."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

# SQLite gives numbers only to a plain INTEGER key.
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")


class NoticeText(SQLModel, table=True):
    """A privacy notice in one language; append-only but for ``retired_at``.

    Attributes:
        digest: SHA-256 of what the person reads, and of its version and language.
        version: of the notice, the same in every language.
        purposes: JSON list.
        material: whether grants under older versions end with this one.
        published_at, retired_at: seconds since the epoch; a retired notice cannot be consented to any more.
    """

    __tablename__ = "notice"
    __table_args__ = (UniqueConstraint("version", "locale", name="uq_notice_version_locale"),)

    digest: str = Field(primary_key=True, max_length=64)
    version: int
    locale: str = Field(max_length=10)
    title: str = Field(max_length=200)
    text: str = Field(sa_type=Text)
    purposes: str = Field(sa_type=Text)
    material: bool
    published_at: int = Field(sa_type=BigInteger)
    retired_at: int | None = Field(default=None, sa_type=BigInteger)


class Subject(SQLModel, table=True):
    """Somebody who took part, under a random handle.

    Attributes:
        public_key: the device's Ed25519 key, base64url.
        age_band: as declared.
        objected: a general objection to personalised treatment.
        restricted: what is stored may not be used until the person lifts it.
        created_day: days since the epoch; the time of day is nobody's business.
    """

    __tablename__ = "subject"

    handle: str = Field(primary_key=True, max_length=64)
    public_key: str = Field(max_length=43, index=True)
    app_id: str = Field(max_length=200)
    age_band: str = Field(max_length=10)
    jurisdiction: str = Field(max_length=10)
    created_day: int
    objected: bool = False
    restricted: bool = False


class ConsentEvent(SQLModel, table=True):
    """One event about one person and one purpose: a request, a decision, or its end; append-only.

    Attributes:
        surface: where it was made, as the app names it.
        actor: role of whoever reported it; ``system`` where time or a notice ended a grant.
        receipt_jws: the signed receipt.
        method: how it came about.
        signals: JSON of the privacy signals that came with it; no raw string.
        reason: why a grant was invalidated.
        log_seq: number of its entry in the transparency log; none for events older than the log.
    """

    __tablename__ = "consent_event"

    seq: int | None = Field(default=None, primary_key=True, sa_type=_SEQUENCE)
    receipt_id: str = Field(max_length=64, unique=True)
    handle: str = Field(foreign_key="subject.handle", max_length=64, index=True)
    purpose: str = Field(max_length=40)
    state: str = Field(max_length=20)
    event_time: int = Field(sa_type=BigInteger)
    valid_until: int = Field(sa_type=BigInteger)
    notice_digest: str = Field(foreign_key="notice.digest", max_length=64)
    locale: str = Field(max_length=10)
    surface: str = Field(max_length=200)
    actor: str = Field(max_length=20)
    receipt_jws: str = Field(sa_type=Text)
    method: str = Field(max_length=20, default="api")
    signals: str = Field(sa_type=Text, default="{}")
    reason: str | None = Field(default=None, max_length=40)
    log_seq: int | None = Field(default=None, sa_type=BigInteger)


class ConsentStateRow(SQLModel, table=True):
    """The latest decision per subject and purpose: a projection of the events, written in their transaction.

    Attributes:
        opposed: a privacy signal that came with the decision opposes the purpose.
        reask_not_before: seconds since the epoch before which nobody may ask again.
    """

    __tablename__ = "consent_state"

    handle: str = Field(primary_key=True, foreign_key="subject.handle", max_length=64)
    purpose: str = Field(primary_key=True, max_length=40)
    state: str = Field(max_length=20)
    event_time: int = Field(sa_type=BigInteger)
    valid_until: int = Field(sa_type=BigInteger)
    notice_digest: str = Field(foreign_key="notice.digest", max_length=64)
    seq: int = Field(foreign_key="consent_event.seq", sa_type=BigInteger)
    opposed: bool = False
    reask_not_before: int | None = Field(default=None, sa_type=BigInteger)
