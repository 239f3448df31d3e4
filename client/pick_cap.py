"""The privacy officers' cap on private picks, as this device has heard it. Owns what a draw may rest on; sends nothing.

The cap is fetched with the lists, by everybody alike. Without one that verifies, is of now and follows what was heard
before, nothing is drawn; an answer that was paid for before needs none.
"""

from __future__ import annotations

from collections.abc import Mapping

from client.device import Node
from common.crypto.signing import PublicKey
from common.errors import TrustError
from common.wire.documents import open_document
from common.wire.pick_cap import PickCap
from policies import pick_caps, picks


def hear(node: Node, jws: str, keys: Mapping[str, PublicKey]) -> PickCap:
    """Verify a cap and keep it, in the place of the one before.

    Raises:
        TrustError, UnknownSigner: it does not verify, is not of now, is about another line, or is of an earlier
            decision than one that was heard before. Nothing is kept.
        StoreError: it could not be kept.
    """
    cap = _opened(node, jws, keys)
    node.pick_caps.keep(cap, jws)
    return cap


def allowed(node: Node) -> float:
    """ε that privacy officers and the document allow one device for its picks of this period.

    Raises:
        TrustError, UnknownSigner: there is no cap that may be relied on now: none was heard, or it is over.
        StoreError: the store of picks cannot be read.
    """
    jws = node.pick_caps.last()
    if jws is None:
        raise TrustError("no cap on private picks was heard; fetch the lists first")
    rules = picks.rules_of(node.policies.policies.privacy_budget)
    return pick_caps.in_force(rules, _opened(node, jws, node.server_keys))


def _opened(node: Node, jws: str, keys: Mapping[str, PublicKey]) -> PickCap:
    cap = open_document(jws, PickCap, keys)
    pick_caps.check(picks.rules_of(node.policies.policies.privacy_budget), cap, node.settings.now())
    return cap
