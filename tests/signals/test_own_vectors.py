"""Good and bad strings, each with the clause it comes from: read as said, or refused for the reason that is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import UndecodableSignal
from common.signals.gpp import decode_gpp
from common.signals.rules import SignalRules
from common.signals.tcf import decode_tcf
from common.signals.usp import decode_usp
from common.signals.verdict import Received, judge

FILE = json.loads((Path(__file__).with_name("vectors") / "own.json").read_text(encoding="utf-8"))
RULES = SignalRules(vendor=FILE["vendor"])
DECODERS = {"tcf": decode_tcf, "gpp": decode_gpp, "us_privacy": decode_usp}


@pytest.mark.parametrize("vector", FILE["vectors"], ids=lambda vector: str(vector["name"]))
def test_vector(vector: dict[str, Any]) -> None:
    kind, text = vector["kind"], vector["text"]
    verdict = judge(Received(**{kind: text}), RULES, FILE["now"])
    assert verdict.opposed == vector["opposed"]
    if "fault" not in vector:
        DECODERS[kind](text)
        return
    with pytest.raises(UndecodableSignal) as caught:
        DECODERS[kind](text)
    assert (caught.value.reason, str(caught.value)) == (vector["fault"], vector["fault"])


def test_vectors_are_of_both_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    good = sum("fault" not in vector for vector in FILE["vectors"])
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(FILE['vectors'])} vectors of our own: {good} can be read, {len(FILE['vectors']) - good} cannot\n"
        )
    assert good >= 40
    assert all(vector["source"] for vector in FILE["vectors"])
