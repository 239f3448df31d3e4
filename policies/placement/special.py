"""Special categories of personal data in words. Owns the list by which creatives and features are refused.

Which words hint at health, belief, sexuality, origin, politics, union membership, biometrics, genes, crime, children or
(PIPL) financial accounts and whereabouts. A hint is enough to refuse: consent does not lift this ban (DSA Art. 26(3)),
and a human who knows better changes the data's wording, not the list. Phrases in which such a word means something
else (a race car, hens under 15 lbs) are taken out first; they are listed here too, each as narrow as it can be.

**Source:** GDPR Art. 9(1) and 10, PIPL Art. 28, DSA Art. 26(3).
"""

from __future__ import annotations

import functools
import re
from enum import StrEnum
from typing import Final


class SpecialCategory(StrEnum):
    """What may be neither a feature nor the subject of a personalised creative."""

    HEALTH = "health"
    BELIEF = "belief"
    SEXUALITY = "sexuality"
    ORIGIN = "origin"
    POLITICS = "politics"
    UNION = "union membership"
    BIOMETRIC = "biometric data"
    GENETIC = "genetic data"
    CRIME = "criminal record"
    CHILD = "a child's data"
    FINANCIAL_ACCOUNT = "financial account"
    WHEREABOUTS = "whereabouts"


_LATIN_WORDS: Final[dict[SpecialCategory, str]] = {
    SpecialCategory.HEALTH: (
        "health conditions?|diseases?|diagnos[ie]s|disabilit(?:y|ies)|pregnan(?:t|cy)|hiv|aids patients?|cancer"
        "|diabetes|depression|abortion|fertility|medications?|prescription drugs?|therap(?:y|ies)|medical"
    ),
    SpecialCategory.BELIEF: (
        "religio(?:n|us|ns)|church(?:es)?|mosques?|muslims?|christians?|jew(?:s|ish)?|buddhists?|hindus?|atheists?"
        "|philosophical beliefs?"
    ),
    SpecialCategory.SEXUALITY: "sexual|sexuality|gay|lesbian|bisexual|transgender|lgbt\\w*",
    SpecialCategory.ORIGIN: "ethnic(?:ity)?|racial|race|skin colou?r|immigration status",
    SpecialCategory.POLITICS: "politic(?:s|al)|elections?|voters?",
    SpecialCategory.UNION: "trade unions?|labou?r unions?|union member(?:s|ship)?",
    SpecialCategory.BIOMETRIC: "biometrics?|fingerprints?|face templates?|iris scans?|voice ?prints?",
    SpecialCategory.GENETIC: "genetics?|genomes?|dna tests?",
    SpecialCategory.CRIME: "criminal|convictions?|arrest records?|offenders?",
    SpecialCategory.CHILD: "minors?|child(?:ren)?s? data|under ?1[0-8]s?",
    SpecialCategory.FINANCIAL_ACCOUNT: "account balances?|bank accounts?|credit scores?|debts?|salar(?:y|ies)",
    SpecialCategory.WHEREABOUTS: "whereabouts|gps|latitude|longitude|location histor(?:y|ies)",
}
_CHINESE_WORDS: Final[dict[SpecialCategory, str]] = {
    SpecialCategory.HEALTH: "疾病 病史 病症 残疾 怀孕 孕妇 处方药 医疗 抑郁",
    SpecialCategory.BELIEF: "宗教 信仰 教徒",
    SpecialCategory.SEXUALITY: "性取向 性生活 同性恋",
    SpecialCategory.ORIGIN: "种族 民族",
    SpecialCategory.POLITICS: "政治 政党 选举",
    SpecialCategory.UNION: "工会",
    SpecialCategory.BIOMETRIC: "生物识别 指纹 人脸特征",
    SpecialCategory.GENETIC: "基因",
    SpecialCategory.CRIME: "犯罪 前科",
    SpecialCategory.CHILD: "未成年人",
    SpecialCategory.FINANCIAL_ACCOUNT: "银行账户 账户余额 征信 负债",
    SpecialCategory.WHEREABOUTS: "行踪 轨迹 精确位置",
}
_THINGS: Final = "cars?|tracks?|days?|bikes?|kits?|suits?|results|numbers?|pace|winners?"
_UNITS: Final = (
    "lbs?|pounds?|oz|ounces?|kgs?|grams?|g|ml|l|litres?|liters?|cm|mm|m|inch(?:es)?|ft|minutes?|mins?|hours?|days?"
    "|items?|pieces?|ct|pk|usd|eur|gbp|cny|rmb|dollars?|euros?|pounds|yuan|calories|kcal|percent"
)
_HARMLESS_LATIN: Final = re.compile(
    "(?<![a-z0-9])(?:"
    r"(?:aroma|bath|body|bath & body|beauty|retail|spa|hair) therap(?:y|ies)"
    r"|ethnic (?:foods?|cuisines?|restaurants?|dish(?:es)?|recipes?)"
    rf"|race (?:{_THINGS})|(?:arms|bike|boat|drag|foot|horse|marathon|rat|relay|road|running|sack|space|trail) races?"
    r"|christian (?:dior|lacroix|louboutin|siriano)"
    r"|(?:asia|ursa|canis|a|b|c|d|e|f|g) minor|minor (?:keys?|leagues?|chords?|scratch(?:es)?|repairs?|planets?)"
    r"|(?:great|tropical) depression|soil fertility"
    r"|fingerprints? (?:free|locks?|magnets?|proof|readers?|resistant|sensors?)|gps (?:navigators?|units?|watch(?:es)?)"
    rf"|under ?1[0-8](?: ?%| ?[$€£¥]| (?:{_UNITS}))|(?:juice|drnk|drinks?) under 10"
    r"|people'?s choice|voters'? choice"
    ")(?![a-z0-9])|(?<![a-z0-9])under ?1[0-8] ?%|[$€£¥] ?under ?1[0-8](?![0-9])|under [$€£¥] ?1[0-8](?![0-9])"
)
_HARMLESS_CHINESE: Final = re.compile("民族风|轨迹球|指纹锁|防指纹|非处方")
_LATIN: Final = re.compile(
    "|".join(f"(?P<{kind.name}>(?<![a-z0-9])(?:{words})(?![a-z0-9]))" for kind, words in _LATIN_WORDS.items())
)
_CHINESE: Final = {word: kind for kind, words in _CHINESE_WORDS.items() for word in words.split()}


@functools.lru_cache(maxsize=8192)
def special_categories(text: str) -> frozenset[SpecialCategory]:
    """The special categories that a text hints at; camelCase, ``_``, ``-`` and ``.`` separate words."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).casefold()
    plain = " ".join(re.split(r"[\s_.\-/:]+", parted))
    plain = _HARMLESS_CHINESE.sub("|", _HARMLESS_LATIN.sub("|", plain))
    latin = {SpecialCategory[match.lastgroup] for match in _LATIN.finditer(plain) if match.lastgroup}
    return frozenset(latin.union(category for word, category in _CHINESE.items() if word in plain))
