"""The one signed form, and the forgeries it must refuse (each vector is named for the bug it hunts)."""

import base64
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey

from common.crypto import keyfile
from common.crypto.signing import PublicKey, SigningKey, canonical, key_ring, sign, verify
from common.errors import InvalidReceipt, MalformedInput, TrustError, UnknownSigner

TYP = "consent-receipt+jws"
KEY = SigningKey(bytes(range(32)))
KEYS = key_ring(KEY.public)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(header: dict[str, object], payload: bytes = b'{"a":1}', key: SigningKey = KEY) -> str:
    """A token whose signature is right, whatever its header and payload say."""
    signed = f"{b64(json.dumps(header).encode())}.{b64(payload)}"
    signature = key.okp.get_op_key("sign").sign(signed.encode())
    return f"{signed}.{b64(signature)}"


def test_rfc_8037_key_gives_its_published_thumbprint() -> None:
    secret = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    key = SigningKey(secret)
    assert key.public.x == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert key.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert key.secret == secret
    assert "nWGxne" not in repr(key)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_what_is_signed_is_what_is_verified(payload: dict[str, object]) -> None:
    data = json.dumps(payload).encode()
    verified = verify(sign(data, KEY, TYP), KEYS, TYP)
    assert verified == canonical(data)
    assert verify(sign(verified, KEY, TYP), KEYS, TYP) == verified


def test_mapping_and_text_sign_alike() -> None:
    assert sign({"b": 1, "a": "é"}, KEY, TYP) == sign('{ "a": "é", "b": 1.0 }'.encode(), KEY, TYP)


@pytest.mark.parametrize("payload", [b"[1]", b'"text"', b"{", b'{"a": NaN}', b'{"a": Infinity}', b""])
def test_only_json_objects_are_signed(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        sign(payload, KEY, TYP)


def test_every_flipped_bit_is_noticed() -> None:
    token = sign({"purpose": "train.local", "n": 7}, KEY, TYP)
    assert verify(token, KEYS, TYP, error=InvalidReceipt)
    for position in range(len(token)):
        for bit in range(7):
            flipped = token[:position] + chr(ord(token[position]) ^ 1 << bit) + token[position + 1 :]
            with pytest.raises(TrustError):
                verify(flipped, KEYS, TYP, error=InvalidReceipt)


HEADER = {"alg": "Ed25519", "kid": KEY.kid, "typ": TYP}


@pytest.mark.parametrize(
    "header",
    [
        HEADER | {"alg": "none"},
        HEADER | {"alg": "EdDSA"},
        HEADER | {"alg": "HS256"},
        HEADER | {"typ": "model-manifest+jws"},
        HEADER | {"typ": TYP.upper()},
        HEADER | {"b64": False, "crit": ["b64"]},
        HEADER | {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": KEY.public.x}},
        {"alg": "Ed25519", "typ": TYP},
        {"alg": "Ed25519", "kid": KEY.kid},
    ],
    ids=["alg-none", "alg-alias", "alg-hmac", "other-typ", "typ-case", "crit-b64", "embedded-key", "no-kid", "no-typ"],
)
def test_a_header_we_do_not_write_is_refused(header: dict[str, object]) -> None:
    assert verify(forge(HEADER), KEYS, TYP)  # the forger's tool is sound
    with pytest.raises(InvalidReceipt):
        verify(forge(header), KEYS, TYP, error=InvalidReceipt)


def test_alg_none_without_signature_is_refused() -> None:
    unsigned = f"{b64(json.dumps(HEADER | {'alg': 'none'}).encode())}.{b64(b'{}')}."
    with pytest.raises(InvalidReceipt):
        verify(unsigned, KEYS, TYP, error=InvalidReceipt)


def test_public_key_as_hmac_secret_is_refused() -> None:
    secret = OctKey.import_key(base64.urlsafe_b64decode(KEY.public.x + "="))
    token = jws.serialize_compact(HEADER | {"alg": "HS256"}, b"{}", secret, algorithms=["HS256"])
    with pytest.raises(InvalidReceipt):
        verify(token, KEYS, TYP, error=InvalidReceipt)


@pytest.mark.parametrize("kid", ["nobody", 7, None, ["x"], {"x": 1}])
def test_unpinned_key_ids_are_refused(kid: object) -> None:
    with pytest.raises(UnknownSigner):
        verify(forge(HEADER | {"kid": kid}), KEYS, TYP)


def test_another_key_is_refused_under_its_own_id_and_under_ours() -> None:
    stranger = SigningKey.generate()
    with pytest.raises(UnknownSigner):
        verify(sign({}, stranger, TYP), KEYS, TYP)
    with pytest.raises(InvalidReceipt):
        verify(forge(HEADER, key=stranger), KEYS, TYP, error=InvalidReceipt)
    with pytest.raises(UnknownSigner):  # a ring that files a key under another's id does not help the stranger
        verify(forge(HEADER), {KEY.kid: stranger.public}, TYP)
    with pytest.raises(UnknownSigner):
        verify(sign({}, KEY, TYP), {}, TYP)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":"\\u0041"}',
        b"[]",
        b"not json",
        b"[" * 100_000,
    ],
    ids=["order", "space", "duplicate", "number", "escape", "array", "text", "nesting"],
)
def test_signed_but_not_canonical_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidReceipt):
        verify(forge(HEADER, payload), KEYS, TYP, error=InvalidReceipt)


def test_trailing_bits_of_base64_are_refused() -> None:
    token = sign({}, KEY, TYP)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(token[-1]) ^ 1]
    with pytest.raises(InvalidReceipt):
        verify(token[:-1] + other, KEYS, TYP, error=InvalidReceipt)


@given(st.text(alphabet=".-_=ABab19é\n ", max_size=40))
def test_nonsense_is_refused(token: str) -> None:
    with pytest.raises(InvalidReceipt):
        verify(token, KEYS, TYP, error=InvalidReceipt)


@pytest.mark.parametrize("x", ["", "AAAA", "!" * 43, KEY.public.x + "=", KEY.public.x[:-1]])
def test_broken_public_keys_are_refused(x: str) -> None:
    with pytest.raises(ValueError, match=r"base64url|32 bytes"):
        PublicKey(x)


def test_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "service.json"
    key = keyfile.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keyfile.load_or_create(path).secret == keyfile.load(path).secret == key.secret
    with pytest.raises(FileExistsError):
        keyfile.save(SigningKey.generate(), path)
    assert keyfile.load(path).kid == key.kid


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"format": "reticent-ed25519-1", "secret": "AAAA"}', b"\xff"])
def test_broken_key_file_is_named_and_not_echoed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "service.json"
    path.write_bytes(content)
    with pytest.raises(MalformedInput, match=r"service\.json is not a signing key file"):
        keyfile.load(path)


def test_a_large_document_verifies() -> None:
    """A catalogue of some hundred creatives is larger than the library's own limit for tokens."""
    key = SigningKey.generate()
    token = sign({"text": "x" * 1_000_000}, key, "test+jws")
    assert verify(token, key_ring(key.public), "test+jws")


def test_the_name_of_a_new_key_is_durable_before_anybody_relies_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that names a key whose file a power cut has taken back is signed for by nobody any more."""
    synced: list[bool] = []
    monkeypatch.setattr(keyfile.os, "fsync", lambda fd: synced.append(stat.S_ISDIR(os.fstat(fd).st_mode)))
    keyfile.save(SigningKey.generate(), tmp_path / "key.json")
    assert synced == [False, True]
