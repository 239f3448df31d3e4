"""What a person who opens the archive reads first."""

from __future__ import annotations

from typing import Final

README: Final = """\
EVIDENCE BUNDLE

Verify it anywhere, offline, with nothing but this file and the installation's public key:

    reticent verify BUNDLE.zip --key PUBLIC_KEY

Get the public key from somewhere else than this bundle. Whoever kept checkpoints of the log adds
--checkpoint FILE: that is what shows a history that was rewritten by the holder of the key.

log/leaves.jsonl       every entry of the transparency log, as it is hashed (RFC 9162, RFC 8785)
log/hashes.bin         SHA-256 of each entry as stored when it was written, 32 bytes each
log/records.jsonl      what opens the entries' commitments; a record that was erased is not there
log/checkpoints.jsonl  signed notes (C2SP): size, root and time
proofs/                inclusion of single entries, consistency between checkpoints
receipts/ ledger/      consent receipts; charges of the privacy budget
policies/ notices/ catalogues/ models/ cards/ audits/
keys.json              published signing keys and how each named its successor
manifest.jws           signed list of all files

证据包

可在任何地方离线验证，只需本文件与安装方的公钥：

    reticent verify BUNDLE.zip --key PUBLIC_KEY

公钥请从本包以外的渠道获取。若您另行保存过日志检查点，请加上 --checkpoint FILE：
持有签名密钥者改写历史时，只有它能揭穿。
"""
