"""Privacy signals in a bid request. Owns where they may stand, and that places which contradict each other mean no.

OpenRTB 2.6 has them in ``regs`` and ``user``; Prebid sends most of them where 2.5 had them, in ``regs.ext`` and
``user.ext``. Both places are read. Nothing here permits anything: what is not opposed still needs the person's grant.
**Source:** OpenRTB 2.6, 3.2.3 (Regs) and 3.2.20 (User); IAB Tech Lab, "GDPR Transparency and Consent Framework".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from common.errors import UndecodableSignal
from common.signals.gpp import decode_gpp
from common.signals.verdict import Received
from common.taxonomy import RefusalReason
from server.exchange.reading import Node, child, is_flag

_TCF_EU_SECTION: Final = 2
_YES: Final = (1, "1", True)
_NO: Final = (None, 0, "0", False, "")


@dataclass(frozen=True, slots=True)
class Regulations:
    """What a bid request says about the person's rights.

    Attributes:
        received: the signals, as the decoders take them.
        contradictory: two places say different things, or one cannot be understood.
        protected: why nothing personal may be used whatever was granted: a child, or a device set to limit tracking.
    """

    received: Received
    contradictory: bool = False
    protected: RefusalReason | None = None


def read_regulations(request: Node) -> Regulations:
    """Everything that a bid request says about consent; it never fails: what cannot be understood is contradictory."""
    regs, regs_ext = child(request, "regs"), child(request, "regs", "ext")
    user, user_ext = child(request, "user"), child(request, "user", "ext")
    places = _Places()
    gdpr = places.one("gdpr", regs, regs_ext)
    received = Received(
        gpc=any(node.get("gpc") in _YES for node in (regs, regs_ext)),
        tcf=places.string("consent", user, user_ext),
        gpp=places.string("gpp", regs, regs_ext),
        us_privacy=places.string("us_privacy", regs, regs_ext),
    )
    gpc_known = all(node.get("gpc") in (*_YES, *_NO) for node in (regs, regs_ext))
    if gdpr not in {None, 0, 1} or not gpc_known or not _are_objects(request):
        places.contradictory = True
    if gdpr == 1 and received.tcf is None and not _says_tcf(received.gpp):
        received = replace(received, tcf="")  # the law applies and nothing was said: an empty string opposes all
    return Regulations(received, places.contradictory, _protected(request))


class _Places:
    """Reads a field from both of its places, and remembers whether they ever disagreed."""

    def __init__(self) -> None:
        self.contradictory = False

    def one(self, name: str, *nodes: Node) -> Any:  # noqa: ANN401 - whatever JSON has there
        """The value; None where there is none, or where two differ."""
        found = [node[name] for node in nodes if node.get(name) is not None]
        if any(type(value) is not type(found[0]) or value != found[0] for value in found):
            self.contradictory = True
            return None
        if found and isinstance(found[0], dict | list | bool | float):
            self.contradictory = True
            return None
        return found[0] if found else None

    def string(self, name: str, *nodes: Node) -> str | None:
        found = self.one(name, *nodes)
        if found is None or isinstance(found, str):
            return found
        self.contradictory = True
        return None


def _are_objects(request: Node) -> bool:
    """Whether the places themselves can be looked into."""
    inner = [(request, "regs"), (request, "user"), (child(request, "regs"), "ext"), (child(request, "user"), "ext")]
    inner += [(request, "device")]
    return all(node.get(name) is None or isinstance(node[name], dict) for node, name in inner)


def _says_tcf(gpp: str | None) -> bool:
    """Whether a GPP string brings the TC string along; it is judged with all of its sections."""
    try:
        return gpp is not None and any(section.number == _TCF_EU_SECTION for section in decode_gpp(gpp))
    except UndecodableSignal:
        return True  # it opposes everything by itself


def _protected(request: Node) -> RefusalReason | None:
    if is_flag(child(request, "regs"), "coppa") or is_flag(child(request, "regs", "ext"), "coppa"):
        return RefusalReason.MINOR
    device = child(request, "device")
    return RefusalReason.SIGNAL_OPT_OUT if is_flag(device, "dnt") or is_flag(device, "lmt") else None
