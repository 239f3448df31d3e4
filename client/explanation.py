"""Why this ad, in words. Owns the sentences that a device says about an ad it chose, English and Chinese.

Made from what was kept when the ad was chosen, on the device and for its owner: that it is an ad, for whom, who paid,
how it was chosen, which families of signals spoke for it by how much, what noise there was, and how to change it (DSA
Art. 26(1), PIPL Art. 24).
"""

from __future__ import annotations

import math
from typing import Final, Literal

from client.store.placed import FamilyEffect, PlacedAd
from common.taxonomy import Purpose

Locale = Literal["en", "zh-CN"]
LOCALES: Final[tuple[Locale, ...]] = ("en", "zh-CN")
_WORDS: Final[dict[str, tuple[str, str]]] = {
    "ad": ("Ad: {title}", "广告：{title}"),
    "same": ("Shown for and paid by {advertiser}.", "广告主及付费方：{advertiser}。"),
    "who": ("Shown for {advertiser}, paid by {payer}.", "广告主：{advertiser}；付费方：{payer}。"),
    "mode_on_device": (
        "Chosen on this device, from a list that is the same for everybody; nobody was told which ad, or why.",
        "由本设备从对所有人相同的列表中选出；没有人知道选了哪条广告、为什么选它。",
    ),
    "mode_private_pick": (
        "Chosen by the service from this device's private pick, an answer with chance in it.",
        "由服务方根据本设备的隐私选择（带随机性的答案）选出。",
    ),
    "mode_contextual": ("Chosen from the page alone.", "仅根据页面选出。"),
    "no_noise": (
        "Nothing was sent when it was chosen, so no noise was needed (ε = 0).",
        "选择时没有发送任何内容，因此无需噪声（ε = 0）。",
    ),
    "noise": ("What was sent had noise in it: ε = {epsilon}.", "发送的内容加入了噪声：ε = {epsilon}。"),
    "score": (
        "Chance that it interests you: {score}; from the page alone it would be {contextual}.",
        "您可能感兴趣的概率：{score}；仅根据页面则为 {contextual}。",
    ),
    "families": ("What the odds owe to what:", "几率的来源："),
    "family": ("{family}: × {factor}", "{family}：× {factor}"),
    "additive": (
        "The factors are exact: multiplied, they give the odds.",
        "各因子均为精确值，相乘即得几率。",
    ),
    "shapley": (
        "The factors multiply to the odds; each is the average over all orders in which they can be added.",
        "各因子相乘即得几率；每个因子是按所有加入顺序取的平均。",
    ),
    "certain": (
        "The policy shows the best ad that may be shown; there was no chance in it.",
        "策略展示允许范围内的最佳广告，没有随机成分。",
    ),
    "chance": (
        "The policy would show it again with probability {probability}.",
        "策略再次展示它的概率为 {probability}。",
    ),
    "change": (
        "See less of it: reticent device tags off {tag}. No personalised ads: reticent device withdraw {purpose}.",
        "少看此类广告：reticent device tags off {tag}。停止个性化广告：reticent device withdraw {purpose}。",
    ),
    "of_base": ("any ad, knowing nothing", "任意广告，不作任何了解"),
    "of_page": ("the page, the hour and the ad itself", "页面、时间与广告本身"),
    "of_bought": ("what you bought", "您购买过的"),
    "of_engaged": ("what you clicked, saved or put in a cart", "您点击、收藏或加入购物车的"),
    "of_viewed": ("what you looked at", "您浏览过的"),
    "of_shown": ("ads you were shown before", "您之前看到的广告"),
    "of_said": ("words you searched for or wrote", "您搜索或写下的词"),
    "of_presence": ("having agreed to personal scores, whatever your history", "同意个性化评分本身，与您的历史无关"),
    "of_other": ("other personal signals", "其他个人信号"),
}
_LEAST: Final = 0.005


def said(key: str, locale: Locale, /, **values: object) -> str:
    """One sentence in one language."""
    return _WORDS[key][locale == "zh-CN"].format(**values)


def family_name(family: str, locale: Locale) -> str:
    """A family's name; one that came later is shown as it is."""
    return said(f"of_{family}", locale) if f"of_{family}" in _WORDS else family


def shares(ad: PlacedAd) -> list[FamilyEffect]:
    """The families that made a difference, the strongest first."""
    return sorted((one for one in ad.families if abs(one.effect) >= _LEAST), key=lambda one: -abs(one.effect))


def percent(share: float) -> str:
    """A probability."""
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def factor(effect: float) -> str:
    """By how much odds change."""
    return f"{math.exp(max(-30.0, min(30.0, effect))):.2g}"


def lines(ad: PlacedAd, locale: Locale) -> list[str]:
    """The whole explanation, a sentence a line."""
    title = ad.title.get(locale) or next(iter(ad.title.values()), ad.creative_id)
    told = [said("ad", locale, title=title)]
    if ad.advertiser == ad.payer:
        told.append(said("same", locale, advertiser=ad.advertiser))
    else:
        told.append(said("who", locale, advertiser=ad.advertiser, payer=ad.payer))
    told.append(said(f"mode_{ad.mode}" if f"mode_{ad.mode}" in _WORDS else "mode_contextual", locale))
    told.append(said("noise", locale, epsilon=f"{ad.epsilon:g}") if ad.epsilon else said("no_noise", locale))
    told.append(said("score", locale, score=percent(ad.score), contextual=percent(ad.contextual)))
    if ad.method in _WORDS:
        told.append(said("families", locale))
        told.append("  " + said("family", locale, family=family_name("base", locale), factor=factor(ad.base)))
        for one in shares(ad):
            name = family_name(one.family, locale)
            told.append("  " + said("family", locale, family=name, factor=factor(one.effect)))
        told.append(said(ad.method, locale))
    certain = ad.propensity == 1
    told.append(said("certain", locale) if certain else said("chance", locale, probability=percent(ad.propensity)))
    told.append(
        said("change", locale, tag=_quoted(next(iter(ad.tags), ad.category)), purpose=Purpose.PLACE_PERSONALISED)
    )
    return told


def _quoted(tag: str) -> str:
    """As a shell takes it."""
    return tag if tag.replace("-", "").replace("_", "").isalnum() else "'" + tag.replace("'", "'\\''") + "'"
