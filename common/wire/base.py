"""What every wire message shares: frozen, strict about fields, bytes as base64. Holds no message itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Handle = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")]
ShortText = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]  # PostgreSQL stores no NUL


class Message(BaseModel):
    """Base of all wire messages."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="strings", val_json_bytes="base64", ser_json_bytes="base64"
    )
