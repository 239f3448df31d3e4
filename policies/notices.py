"""Privacy notices: the texts shown to people. Owns their form, and the digest under which a consent is given.

A digest covers everything the person reads in one language, the purposes' own texts included, so a grant says exactly
what was agreed to. A new version that is ``material`` ends the grants given under older ones (PIPL Art. 14).
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.crypto.signing import canonical
from common.errors import PolicyError
from common.taxonomy import Purpose
from common.wire.codec import describe
from policies.loader import DOCUMENTS, read_yaml
from policies.schema import Document, PurposesPolicy

Locale = Literal["en", "zh-CN"]
LOCALES: tuple[Locale, ...] = ("en", "zh-CN")


class NoticeWords(BaseModel):
    """What one language's notice says."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str = Field(min_length=1, max_length=200)
    text: str = Field(min_length=1, max_length=20_000)


class NoticeDocument(Document):
    """A notice in every language.

    Attributes:
        material: whether it changes purposes, methods or kinds of data, so that people must be asked again.
    """

    material: bool
    texts: dict[Locale, NoticeWords]


class NoticePurpose(BaseModel):
    """One purpose as the notice describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: Purpose
    title: str
    text: str


class Notice(BaseModel):
    """A notice in one language, as a person reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: int = Field(ge=1)
    locale: Locale
    title: str
    text: str
    purposes: tuple[NoticePurpose, ...]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of all of it, hex."""
        return hashlib.sha256(canonical(self.model_dump_json().encode())).hexdigest()


def notices(document: NoticeDocument, purposes: PurposesPolicy) -> tuple[Notice, ...]:
    """The document's notice in every language, with the purposes' texts.

    Raises:
        PolicyError: a language is missing.
    """
    missing = [locale for locale in LOCALES if locale not in document.texts]
    if missing:
        raise PolicyError(f"the notice has no text in {', '.join(missing)}")
    return tuple(_in(locale, document, purposes) for locale in LOCALES)


def read_notices(
    purposes: PurposesPolicy, directory: Path | None = None
) -> list[tuple[NoticeDocument, tuple[Notice, ...]]]:
    """Every notice version of ``directory`` (that of the package by default), oldest first.

    Raises:
        PolicyError: there is none, or one is invalid or not of the version that its file name says.
    """
    directory = directory or DOCUMENTS / "notice"
    documents = [_read(path) for path in directory.glob("*.yaml")]
    if not documents:
        raise PolicyError("there is no privacy notice to publish")
    return [(document, notices(document, purposes)) for document in sorted(documents, key=lambda d: d.version)]


def _in(locale: Locale, document: NoticeDocument, purposes: PurposesPolicy) -> Notice:
    words = document.texts[locale]
    described = tuple(
        NoticePurpose(id=rule.id, title=rule.title[locale], text=rule.text[locale]) for rule in purposes.purposes
    )
    return Notice(version=document.version, locale=locale, title=words.title, text=words.text, purposes=described)


def _read(path: Path) -> NoticeDocument:
    try:
        document = NoticeDocument.model_validate(read_yaml(path))
    except ValidationError as error:
        raise PolicyError(f"notice/{path.name}: {describe(error)}") from None
    if path.stem != str(document.version):
        raise PolicyError(f"notice/{path.name}: holds version {document.version}")
    return document
