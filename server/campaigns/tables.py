"""Tables of campaigns, creatives, placements, catalogues and the ad repository. Owns their columns."""

from __future__ import annotations

from sqlalchemy import BigInteger, Text
from sqlmodel import Field, SQLModel


class CatalogueVersion(SQLModel, table=True):
    """One published catalogue; append-only, the newest is in force.

    Attributes:
        digest: SHA-256 of the creatives' canonical JSON: the same creatives are not published twice in a row.
        jws: the signed catalogue, the very bytes that everybody gets.
    """

    __tablename__ = "catalogue_version"

    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    digest: str = Field(max_length=64)
    jws: str = Field(sa_type=Text)
    published_at: int = Field(sa_type=BigInteger)


class PlanRow(SQLModel, table=True):
    """One campaign or one creative under review.

    Attributes:
        plan_id: ``cmp_…`` or ``crv_…``, random.
        kind: a ``PlanKind``.
        campaign_id: the campaign that a creative belongs to; a campaign's own id.
        advertiser: holder of the keys that may change it.
        state: a ``ReviewState``.
        revision: counts changes; the entity tag.
        terms: JSON of what was handed in.
        author: holder of the key that changed its terms last: they may not approve it.
        reason, note: of the last rejection.
    """

    __tablename__ = "plan"

    plan_id: str = Field(primary_key=True, max_length=40)
    kind: str = Field(max_length=20, index=True)
    campaign_id: str = Field(max_length=40, index=True)
    advertiser: str = Field(max_length=64, index=True)
    state: str = Field(max_length=20)
    revision: int
    terms: str = Field(sa_type=Text)
    author: str = Field(max_length=64)
    reason: str | None = Field(default=None, max_length=40)
    note: str = Field(default="", max_length=500)
    created_at: int = Field(sa_type=BigInteger)
    changed_at: int = Field(sa_type=BigInteger)


class SurfaceRow(SQLModel, table=True):
    """One placement that an app offers.

    Attributes:
        slot_id: as decision requests name it.
        revision: counts changes; the entity tag.
        terms: JSON of what it takes and refuses.
    """

    __tablename__ = "surface"

    slot_id: str = Field(primary_key=True, max_length=64)
    revision: int
    terms: str = Field(sa_type=Text)
    changed_at: int = Field(sa_type=BigInteger)


class PresentedRow(SQLModel, table=True):
    """One period in which one content of one creative could be shown: a line of the public ad repository.

    Attributes:
        entry_id: digest of creative, content and begin.
        content: JSON of the creative as it was in the signed catalogue.
        ended_at: when it left the catalogue; None: it is in it.
        withheld: why the content is not shown any more (DSA Art. 39(3)); None: it is shown.
    """

    __tablename__ = "presented"

    entry_id: str = Field(primary_key=True, max_length=64)
    creative_id: str = Field(max_length=200, index=True)
    digest: str = Field(max_length=64)
    campaign: str = Field(max_length=200, index=True)
    advertiser: str = Field(max_length=200, index=True)
    content: str = Field(sa_type=Text)
    began_at: int = Field(sa_type=BigInteger)
    ended_at: int | None = Field(default=None, sa_type=BigInteger, index=True)
    withheld: str | None = Field(default=None, max_length=40)
