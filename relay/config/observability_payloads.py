"""`observability.payloads`: prompts and answers as JSON lines, in files."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator, model_validator

from relay.config.model import Model
from relay.config.references import surroundings


class PayloadsConfig(Model):
    folder: str = Field(
        "payloads",
        validate_default=True,
        description="where the files are, relative to this file's folder; made if it is not there,"
        " for the relay's user alone",
    )
    aliases: tuple[str, ...] | None = Field(
        None, min_length=1, description="whose generations are written; null, as `keys`: all"
    )
    keys: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="ids of keys whose generations are written, beside `aliases`",
    )
    share: float = Field(
        1.0, gt=0, le=1, allow_inf_nan=False, description="of those, by the trace's id"
    )
    max_chars: int = Field(
        200_000, ge=256, le=10_000_000, description="of a prompt, and of an answer"
    )
    max_file_bytes: int = Field(
        64 * 1024 * 1024, ge=4096, description="a file that is larger is followed by a new one"
    )
    max_file_s: int = Field(3_600, ge=1, le=86_400, description="and one that is older")
    retention_days: float = Field(
        7.0, gt=0, le=3_650, allow_inf_nan=False, description="older files are deleted"
    )
    max_total_bytes: int = Field(
        4 * 1024 * 1024 * 1024,
        ge=16 * 1024,
        description="of all files in the folder; the oldest are deleted before they are more",
    )
    max_waiting_bytes: int = Field(
        32 * 1024 * 1024,
        ge=64 * 1024,
        description="of prompts and answers that wait to be written; what is over is dropped and"
        " counted",
    )

    @field_validator("folder")
    @classmethod
    def _from_here(cls, value: str, info: ValidationInfo) -> str:
        path = surroundings(info).folder / value
        if not value or (path.exists() and not path.is_dir()):
            raise ValueError("a folder is expected")
        if not path.parent.is_dir():
            raise ValueError(f"there is no folder {path.parent}")
        return str(path)

    @model_validator(mode="after")
    def _files_fit(self) -> PayloadsConfig:
        if self.max_total_bytes < 2 * self.max_file_bytes:
            raise ValueError("max_total_bytes: is less than two files of max_file_bytes")
        if self.max_file_s > self.retention_days * 86_400:
            raise ValueError("max_file_s: files would be deleted while they are written")
        return self

    def wants(self, alias: str, key_id: str) -> bool:
        """Whether generations of an alias, asked for with a key, are written."""
        if self.aliases is None and self.keys is None:
            return True
        return alias in (self.aliases or ()) or key_id in (self.keys or ())
