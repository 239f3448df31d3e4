"""What people are told about a decision. Owns the sentences, in English and Chinese; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from common.taxonomy import RefusalReason
from policies.notices import Locale

_CHINESE: Final[Mapping[RefusalReason, str]] = {
    RefusalReason.UNKNOWN_SUBJECT: "未识别到该用户，因此不得使用任何个人信息。",
    RefusalReason.MALFORMED: "请求无法被理解，因此不得使用任何个人信息。",
    RefusalReason.NO_CONSENT: "尚未就此目的取得同意。",
    RefusalReason.REFUSED: "用户已拒绝此目的。",
    RefusalReason.WITHDRAWN: "用户已撤回对此目的的同意。",
    RefusalReason.EXPIRED: "对此目的的同意已过期，请重新征求。",
    RefusalReason.SUPERSEDED: "自同意以来隐私告知已变更，请重新征求。",
    RefusalReason.MISSING_PREREQUISITE: "此目的所依赖的另一目的尚未获得同意。",
    RefusalReason.MINOR: "仅向声明为成年人的用户提供个性化处理。",
    RefusalReason.SIGNAL_OPT_OUT: "已收到退出信号。",
    RefusalReason.KILL_SWITCH: "隐私官已停止此目的。",
    RefusalReason.OBJECTED: "用户已反对个性化处理。",
    RefusalReason.RESTRICTED: "用户已要求限制对其个人信息的处理。",
    RefusalReason.INVALIDATED: "所记录的同意被认定为无效，请重新征求。",
    RefusalReason.BUDGET_EXHAUSTED: "隐私预算不允许再次发布。",
    RefusalReason.UNVERIFIED: "签名或摘要未通过验证。",
    RefusalReason.PICK_OUTDATED: "该私密选择所依据的公开列表并非当前生效的列表。",
    RefusalReason.PICK_REDRAWN: "此前已就该列表给出另一私密选择，仅首次选择有效。",
    RefusalReason.PICK_STOPPED: "用户已停用此前作出的私密选择。",
    RefusalReason.LATE: "未能在调用方给定的时间内作出答复，因此不使用任何个人信息。",
    RefusalReason.UNAVAILABLE: "无法读取作出决定所需的状态，因此按“否”处理。",
}
_ON_DEVICE: Final[Mapping[Locale, str]] = {
    "en": "Consent is live: the choice is made on this device, and this service does not learn it.",
    "zh-CN": "同意有效：由本设备作出选择，本服务不会得知所选内容。",
}
_PARAMETERS: Final[Mapping[Locale, tuple[str, ...]]] = {
    "en": ("the page this ad is on", "the time of day", "what the ad is about"),
    "zh-CN": ("广告所在的页面", "当前时间", "广告的内容"),
}
_NOTHING_PERSONAL: Final[Mapping[Locale, str]] = {
    "en": "No information about you was used.",
    "zh-CN": "未使用任何关于您的信息。",
}


_PICKED: Final[Mapping[Locale, str]] = {
    "en": "Consent is live: this service chose, knowing one private answer of this device beside the page.",
    "zh-CN": "同意有效：由本服务根据页面及本设备的一次私密答复作出选择。",
}
_ONE_ANSWER: Final[Mapping[Locale, str]] = {
    "en": "your device's private answer to a public list of ads",
    "zh-CN": "您的设备对公开广告列表的一次私密答复",
}
_ONE_PICK: Final[Mapping[Locale, str]] = {
    "en": "One answer of your device, drawn with noise (ε = {epsilon:g}): whatever you did, it would have been given "
    "with nearly the same odds. It is repeated for a week and never asked anew.",
    "zh-CN": "仅使用了您设备的一次加噪答复（ε = {epsilon:g}）：无论您有过何种行为，给出该答复的概率都相近。"
    "该答复在一周内重复使用，不会重新询问。",
}


def explanation(reason: RefusalReason | None, locale: Locale, *, picked: bool = False) -> str:
    """One sentence about the mode; no reason means that the device chooses, or has given a private pick."""
    if reason is None:
        return _PICKED[locale] if picked else _ON_DEVICE[locale]
    return _CHINESE.get(reason, reason.explanation) if locale == "zh-CN" else reason.explanation


def main_parameters(locale: Locale, *, picked: bool = False) -> tuple[str, ...]:
    """What the service's choice depends on (DSA Art. 26(1))."""
    return (*_PARAMETERS[locale], _ONE_ANSWER[locale]) if picked else _PARAMETERS[locale]


def one_pick(epsilon: float, locale: Locale) -> str:
    """What of the person a choice from a private pick has used."""
    return _ONE_PICK[locale].format(epsilon=epsilon)


def nothing_personal(locale: Locale) -> str:
    """That a contextual choice used nothing about the person."""
    return _NOTHING_PERSONAL[locale]
