"""``reticent bundle`` and ``reticent verify``: from options to files, words and exit codes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from common.errors import InputError
from server.settings import Settings

NOT_GENUINE: Final = 1
NOT_COMPLETE: Final = 3


def bundle(out: Path, *, personal: bool) -> str:
    """Write a bundle, all at once; what was written, in a line.

    Raises:
        InputError: the file cannot be written.
        TrustError: something that is stored does not verify.
    """
    from server.api.services import build_services
    from server.evidence.bundle import write_bundle

    services = build_services(Settings.from_env())
    draft = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            done = write_bundle(services, file, personal=personal)
        draft.replace(out)
    except OSError as error:
        raise InputError(f"{out.name} cannot be written: {error.strerror or 'no reason given'}") from None
    finally:
        draft.unlink(missing_ok=True)
        services.database.close()
    return (
        f"{out}: {done.entries} entries, {done.records} records, {done.receipts} receipts, {done.charges} charges. "
        f"Verify: reticent verify {out} --key {services.signer.public.x}"
    )


def verify(path: Path, key: str, kept: Sequence[Path], *, as_json: bool, every_signature: bool = False) -> int:
    """Verify a bundle and say what was found; the exit status: 0, not genuine, or genuine and not complete.

    Raises:
        InputError: the bundle or the key cannot be read.
        TrustError: a checkpoint that was kept is not of a trusted key.
    """
    from cli.evidence.show import report_json, show_report
    from cli.evidence.trust import read_key
    from cli.evidence.verify import verify_bundle

    report = verify_bundle(path, read_key(key), kept, every_signature=every_signature)
    if as_json:
        print(report_json(report))  # noqa: T201 - what was asked for, and nothing else
    else:
        show_report(report)
    if not report.genuine:
        return NOT_GENUINE
    return 0 if report.complete else NOT_COMPLETE
