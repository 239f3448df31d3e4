"""Notices in force. Owns their publication: versions only grow, a published text never changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from common.errors import NotFound, PolicyError, UnknownNotice
from common.taxonomy import Role
from policies.notices import Notice, NoticeDocument, notices, read_notices
from policies.schema import PurposesPolicy
from server.consent import notice_repository as repository
from server.consent.notice_repository import StoredNotice
from server.storage import Database, exclusive
from server.transparency.publications import notice_published
from server.transparency.service import TransparencyLog


class NoticeService:
    """Publishes and serves privacy notices."""

    def __init__(
        self,
        database: Database,
        purposes: PurposesPolicy,
        clock: Callable[[], float] = time.time,
        *,
        log: TransparencyLog,
    ) -> None:
        self._database, self._purposes, self._clock, self._log = database, purposes, clock, log

    def publish(self, document: NoticeDocument, *, actor: str = Role.ADMIN.value) -> tuple[Notice, ...]:
        """Put a new version in force. The same version with the same texts is no change.

        Raises:
            PolicyError: the version is not newer, or was published with other texts.
        """
        texts = notices(document, self._purposes)
        self._publish(document, texts, actor)
        return texts

    def publish_documents(self, directory: Path | None = None) -> int:
        """Publish every version of the policy documents that is not published yet; returns the version in force."""
        published = read_notices(self._purposes, directory)
        with self._database.read() as session:
            newest = repository.newest_notice_version(session)
        for document, texts in published:
            if document.version >= newest:
                self._publish(document, texts, Role.ADMIN.value)
        return max(newest, published[-1][0].version)

    def current(self, locale: str) -> StoredNotice:
        """The notice in force.

        Raises:
            NotFound: none was published.
        """
        with self._database.read() as session:
            found = repository.current_notice(session, locale)
        if found is None:
            raise NotFound("no notice is published in this language")
        return found

    def accepted(self) -> frozenset[str]:
        """Digests of the notices whose grants still hold: the one in force, and older ones up to a material change."""
        with self._database.read() as session:
            return repository.accepted_notices(session)

    def by_digest(self, digest: str) -> StoredNotice:
        """A notice as it was published, retired or not.

        Raises:
            UnknownNotice: it never was.
        """
        with self._database.read() as session:
            found = repository.notice(session, digest)
        if found is None:
            raise UnknownNotice("no notice with this digest was published here")
        return found

    def _publish(self, document: NoticeDocument, texts: Sequence[Notice], actor: str) -> None:
        with self._database.write() as session:
            exclusive(session, "notices")
            newest = repository.newest_notice_version(session)
            if document.version == newest:
                if repository.version_digests(session, newest) != {text.digest for text in texts}:
                    raise PolicyError(
                        f"notice version {newest} is published with other texts; give these a new version"
                    )
                return
            if document.version < newest:
                raise PolicyError(f"notice version {document.version} is older than version {newest} in force")
            repository.publish(session, texts, material=document.material, now=int(self._clock()))
            session.flush()
            notice_published(
                session, self._log, texts, version=document.version, material=document.material, actor=actor
            )
