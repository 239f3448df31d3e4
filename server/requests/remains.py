"""What an erasure cannot take back. Owns the honest statement of it: per training, and over everything together.

A sum that was released cannot be un-released, and a model made from it cannot forget one device. What can be said is
how much anybody who sees every such release can learn of that device: the (ε, δ) of exactly what *this* device was
charged, composed as the ledger composes it, lines apart. Whether what remains is anonymous is not claimed here: that
is shown case by case (EDPB Opinion 28/2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from common.privacy import accountant
from common.privacy.accountant import line_of
from common.privacy.parameters import MechanismUse, PrivacyStatement
from common.wire.messages import ModelManifest
from common.wire.requests import RemainingModel, Remains
from policies.notices import Locale
from policies.schema import PrivacyBudgetPolicy
from server.ledger.words import Entry

RANDOMNESS: Final = "each device's own generator, keyed by its operating system (seeded in simulations that say so)"
_NOTHING: Final[dict[Locale, str]] = {
    "en": (
        "Nothing. This service's ledger was never charged for this device: no released sum or model holds a "
        "contribution that it knows to be this device's. Rounds in which devices add all noise themselves are not "
        "known here by device; the ledger on the device states what they can reveal at most."
    ),
    "zh-CN": (
        "没有任何内容。本服务的账本从未记入此设备：据本服务所知，任何已发布的总和或模型均不含此设备的贡献。"
        "由设备自行加入全部噪声的轮次在此不按设备记录；设备上的隐私账本会说明其最多可能泄露的程度。"
    ),
}
_SOMETHING: Final[dict[Locale, str]] = {
    "en": (
        "Released sums, and models made from them, stay: a contribution cannot be taken out of them. Whoever sees all "
        "of them can learn about this device at most what the figures below allow (ε at δ, for each line on its own; "
        "lines are never added up). Sessions that were charged but never finished are counted as if they had been. "
        "Rounds in which devices add all noise themselves are stated by the ledger on the device."
    ),
    "zh-CN": (
        "已发布的总和以及由其得出的模型会保留：其中的贡献无法取出。即使有人看到全部内容，对此设备最多也只能获知下列数值所允许的程度"
        "（每一行分别以 δ 下的 ε 表示，各行从不相加）。已计费但未完成的会话也按已完成计算。"
        "由设备自行加入全部噪声的轮次由设备上的账本说明。"
    ),
}


def remains(
    policy: PrivacyBudgetPolicy,
    entries: Sequence[Entry],
    manifests: Iterable[ModelManifest],
    *,
    locale: Locale,
    tombstone_until: int | None,
) -> Remains:
    """What remains of one device.

    Args:
        policy: names the lines and their δ.
        entries: everything that the ledger charged to it, in any period.
        manifests: every registered model.
        locale: of the explanation.
        tombstone_until: last day of the period in which it has spent something; None if it has spent nothing there.
    """
    if not entries:
        return Remains(explanation=_NOTHING[locale], tombstone_until=tombstone_until)
    versions: dict[str, list[int]] = {}
    for manifest in manifests:
        versions.setdefault(manifest.run_id, []).append(manifest.version)
    runs = list(dict.fromkeys(entry.run_id for entry in entries))
    return Remains(
        models=tuple(
            RemainingModel(
                run_id=run,
                model_versions=tuple(sorted(versions.get(run, []))),
                releases=sum(entry.run_id == run for entry in entries),
                bounds=_bounds(policy, [e.use for e in entries if e.run_id == run], "this device in this training"),
            )
            for run in runs
        ),
        bounds=_bounds(policy, [entry.use for entry in entries], "everything this device was ever charged"),
        explanation=_SOMETHING[locale],
        tombstone_until=tombstone_until,
    )


def _bounds(policy: PrivacyBudgetPolicy, uses: Sequence[MechanismUse], scope: str) -> tuple[PrivacyStatement, ...]:
    """One statement per line that occurs; δ of a line that the document no longer has is that of its first."""
    known = {(line.unit, line.relation, line.trust): line.delta for line in policy.lines}
    lines = dict.fromkeys(line_of([use]) for use in uses)
    return tuple(
        accountant.statement(
            [use for use in uses if line_of([use]) == line],
            known.get((line.unit, line.relation, line.trust), policy.lines[0].delta),
            RANDOMNESS,
            scope=scope,
        )
        for line in lines
    )
