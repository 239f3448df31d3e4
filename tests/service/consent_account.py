"""A deliberately simple account of the law, and the installation that it is compared with.

Written without a look at the service: each condition once, in plain words.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import event

from common.crypto.signing import PublicKey, SigningKey
from common.taxonomy import AgeBand, Purpose
from policies.loader import DOCUMENTS
from policies.notices import NoticeDocument
from server.api.services import Services, build_services
from server.settings import Settings
from tests.service.world import Clock

DAY = 86_400
PAST_DAY = DAY + 60  # receipts of one second are a second apart: no wait ends within that second
NEEDED = {
    Purpose.TRAIN_LOCAL: {Purpose.TRAIN_LOCAL},
    Purpose.TRAIN_CONTRIBUTE: {Purpose.TRAIN_CONTRIBUTE, Purpose.TRAIN_LOCAL},
    Purpose.PLACE_PERSONALISED: {Purpose.PLACE_PERSONALISED, Purpose.TRAIN_LOCAL},
    Purpose.MEASURE_AGGREGATE: {Purpose.MEASURE_AGGREGATE},
}
PLACES = ("DE", "US-CA", "FR")
REASK_DAYS = {"DE": 0, "US-CA": 365, "FR": 180}
SHIPPED = max(int(path.stem) for path in (DOCUMENTS / "notice").glob("*.yaml"))
KEYS = tuple(SigningKey(bytes([number]) * 32).public for number in range(1, 5))


def words(version: int, *, material: bool) -> NoticeDocument:
    """A notice; 1 is the version that the package ships last, 2 the next one."""
    texts = {
        "en": {"title": "Notice", "text": f"Text {version}"},
        "zh-CN": {"title": "告知", "text": f"文本 {version}"},
    }
    number = SHIPPED - 1 + version
    return NoticeDocument.model_validate({"version": number, "material": material, "texts": texts})


@contextmanager
def installation(blank: Path) -> Iterator[tuple[Path, Clock]]:
    folder, clock = Path(tempfile.mkdtemp()), Clock()
    shutil.copytree(blank, folder / "state")
    try:
        yield folder / "state", clock
    finally:
        shutil.rmtree(folder)


def start(state: Path, clock: Clock) -> Services:
    """A process of the service. It need not survive a power cut: that is another test's business."""
    services = build_services(Settings.at(state), clock=clock)
    event.listen(services.database.engine, "connect", lambda c, _: c.execute("PRAGMA synchronous=OFF"))
    return services


@dataclass
class Account:
    """What the law says about one person, as plainly as possible."""

    age: AgeBand
    place: str
    key: PublicKey
    given_at: dict[Purpose, float] = field(default_factory=dict)
    agreed: set[Purpose] = field(default_factory=set)  # their last word was yes, however that ended
    opposed: set[Purpose] = field(default_factory=set)
    no_at: dict[Purpose, float] = field(default_factory=dict)
    objects: bool = False
    restricted: bool = False

    def says_no(self, purpose: Purpose, now: float) -> None:
        self.given_at.pop(purpose, None)
        if purpose in self.agreed:
            self.agreed.discard(purpose)
            self.no_at[purpose] = now

    def live(self, purpose: Purpose, now: float) -> bool:
        return (
            self.age is AgeBand.ADULT
            and not self.objects
            and not self.restricted
            and all(
                one in self.given_at and now < self.given_at[one] + 180 * DAY and one not in self.opposed
                for one in NEEDED[purpose]
            )
        )
