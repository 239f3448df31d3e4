"""Policy documents are read strictly, digested, and refused by name."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from common.errors import PolicyError
from policies import loader

PLACEMENT = """\
version: 1
name: test
eligibility:
  denied_categories: [tobacco, prescription drugs, health condition, sexual life, religion, political, trade union]
strategy: {kind: top_k, k: 3}
"""


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    shutil.copytree(loader.DOCUMENTS, folder)
    (folder / "placement.yaml").write_text(PLACEMENT, encoding="utf-8")
    return folder


def test_documents_load_with_the_digests_of_their_bytes(documents: Path) -> None:
    loaded = loader.load(documents)
    assert set(loaded.digests) == set(loader.NAMES)
    for name, digest in loaded.digests.items():
        assert digest == hashlib.sha256((documents / f"{name}.yaml").read_bytes()).hexdigest()
    assert loaded.policies.purposes.validity_days_max == 395


def test_the_documents_that_ship_are_proved() -> None:
    assert set(loader.load().digests) == set(loader.NAMES)


def change(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    changed, count = re.subn(old, lambda _: new, text, count=1)
    assert count == 1
    path.write_text(changed, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("privacy_budget", "delta: .*", "delta: 1.0", r"privacy_budget\.lines\.0\.delta: less_than"),
        (
            "privacy_budget",
            "delta: .*",
            "delta: 1.0e-5\n    delta: 1.0e-6",
            r"privacy_budget\.yaml, line \d+: a key appears",
        ),
        ("privacy_budget", r"noise_multiplier: [\d.]+", "noise_multiplier: .nan", "noise_multiplier"),
        ("privacy_budget", r"rounds_max: \d+[^\n]*\n", "", r"privacy_budget\.rounds_max: missing"),
        ("privacy_budget", r"rounds_max: \d+[^\n]*", "rounds_max: 1\nnoise_stddev: 1", "noise_stddev: extra_forbidden"),
        ("purposes", "id: measure.aggregate", "id: measure.everything", r"purposes\.purposes\.3\.id: enum"),
        ("retention", r"purchase: \d+", "purchase: 0", "purchase"),
        ("egress", "message: consent_change", "message: &a consent_change", "ok"),
        ("egress", "version: 1", "version: *a", "aliases are not allowed"),
        ("egress", "version: 1", "version: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("egress", "version: 1", "version: [1", r"egress\.yaml"),
    ],
)
def test_a_bad_document_is_refused_by_name(documents: Path, name: str, old: str, new: str, said: str) -> None:
    change(documents, name, old, new)
    if said == "ok":
        loader.load(documents)
        return
    with pytest.raises(PolicyError, match=said):
        loader.load(documents)


def test_missing_oversized_and_undecodable_documents(documents: Path) -> None:
    path = documents / "retention.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError, match=r"retention\.yaml: not UTF-8"):
        loader.load(documents)
    path.write_bytes(b"# " + b"x" * loader.SIZE_BYTES_MAX)
    with pytest.raises(PolicyError, match=r"retention\.yaml: larger than"):
        loader.load(documents)
    path.unlink()
    with pytest.raises(PolicyError, match=r"retention\.yaml: No such file"):
        loader.load(documents)


def test_nested_duplicate_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("a:\n  b: 1\n  b: 2\n", encoding="utf-8")
    with pytest.raises(PolicyError, match=r"some\.yaml, line 2: a key appears twice"):
        loader.read_yaml(path)
    path.write_text("a: [1, 2.5, text, null, true]\n", encoding="utf-8")
    assert loader.read_yaml(path) == {"a": [1, 2.5, "text", None, True]}
