"""No cut, extension or flipped bit yields a purpose that was not given; ``fuzz.py`` says precisely what that means."""

from __future__ import annotations

import random
import sys

import pytest

from common.signals import tcf
from common.signals.bits import BitReader
from common.signals.tcf import decode_tcf
from common.signals.verdict import Received, judge
from common.taxonomy import Purpose
from tests.signals import fuzz, plain

EVERY = 20  # of the vectors by length; all of them: python -m tests.signals.fuzz


def test_altered_strings_never_say_more(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = sorted(fuzz.iab_vectors(), key=lambda vector: len(str(vector["text"])))[::EVERY]
    counts = fuzz.run(chosen)
    with capsys.disabled():
        sys.stdout.write(f"\n{fuzz.report(counts)}\n")
    assert counts["cut, refused"] > 500
    assert counts["flipped, refused"] > 1000
    assert counts["flipped, read as the plain reading reads it"] > 1000


def test_a_decoder_that_fails_open_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: missing bits of a bit field read as "all of them", as iab-tcf 0.2.2 does; other missing bits as 0."""
    honest = BitReader._take

    def zero_filled(reader: BitReader, width: int) -> str:
        reader._bits += "0" * (reader._at + width - len(reader._bits))
        return honest(reader, width)

    def fails_open(reader: BitReader, width: int) -> frozenset[int]:
        found = honest(reader, width) if len(reader._bits) >= reader._at + width else "1" * width
        return frozenset(at for at, bit in enumerate(found, 1) if bit == "1")

    monkeypatch.setattr(BitReader, "_take", zero_filled)
    monkeypatch.setattr(BitReader, "positions", fails_open)
    monkeypatch.setattr(BitReader, "finish", lambda _reader: None)
    monkeypatch.setattr(tcf, "CONSENT_ONLY", frozenset[int]())
    text = next(str(vector["text"]) for vector in fuzz.iab_vectors() if vector["kind"] == "tcf")
    with pytest.raises(AssertionError):
        fuzz.shortened_or_extended("tcf", text)


def test_every_flip_of_a_purpose_is_what_it_says_and_no_more() -> None:
    """The 24 purpose bits of one string, each flipped: that one purpose changes, and nothing else does."""
    text = next(str(vector["text"]) for vector in fuzz.iab_vectors() if vector["kind"] == "tcf")
    bits = plain.bits_of(text.split(".")[0])
    for purpose in range(1, 25):
        at = plain.PURPOSES_AT + purpose - 1
        flipped = plain.text_of(bits[:at] + "10"[int(bits[at])] + bits[at + 1 :])
        assert decode_tcf(flipped).purposes == decode_tcf(text).purposes ^ {purpose}


def test_noise_opposes_everything() -> None:
    """20,000 random strings, half of them with the right beginning; fixed seed."""
    draw, every = random.Random(20261122), set(Purpose)
    alphabet = plain.ALPHABET + ".~"
    for number in range(20_000):
        begin = ("C", "DBA", "", "1")[number % 4] if number % 2 else ""
        text = begin + "".join(draw.choices(alphabet, k=draw.randrange(120)))
        received = (Received(tcf=text), Received(gpp=text), Received(us_privacy=text))[number % 3]
        assert set(judge(received, fuzz.RULES, fuzz.NOW).opposed) == every, text
