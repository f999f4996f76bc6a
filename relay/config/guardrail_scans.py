"""`guardrails.rails.NAME.scan`: what a guardrail looks for, one model a kind.

Those of text (`denied`, `patterns`, `secrets`, `pii`, `injection`) are looked for here, in
microseconds. The others ask somebody: a provider's moderation, an address of the operator's own, a
model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from relay.config.budgets import LEAST_SECRET_CHARS, signed_address
from relay.config.model import Model
from relay.config.providers import readable_file
from relay.config.reach import AllowPrivate
from relay.config.references import expand_secret, resolve_secret, surroundings
from relay.config.secret import Secret

MAX_TERMS = 20_000
MAX_TERM_CHARS = 200
MAX_FILE_CHARS = 4 * 1024 * 1024

Term = Annotated[str, Field(min_length=1, max_length=MAX_TERM_CHARS)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class DeniedConfig(Model):
    """Words and phrases, whatever their case, width and accents."""

    kind: Literal["denied"]
    terms: tuple[Term, ...] = Field((), max_length=MAX_TERMS)
    file: str | None = Field(
        None, description="more of them, one a line, UTF-8; `#` begins a comment; read at a reload"
    )
    whole_words: bool = Field(
        True, description="`ass` is not found in `class`; languages without spaces want false"
    )

    @field_validator("file")
    @classmethod
    def _readable(cls, value: str | None, info: ValidationInfo) -> str | None:
        return readable_file(value, info)

    @model_validator(mode="after")
    def _has_some(self) -> DeniedConfig:
        self.all_terms()
        return self

    def all_terms(self) -> tuple[str, ...]:
        """Those of the file too.

        Raises:
            ValueError: there are none, too many, or one is too long; or the file is no text.
        """
        found = [term.strip() for term in self.terms]
        if self.file is not None:
            try:
                with open(self.file, encoding="utf-8") as file:
                    text = file.read(MAX_FILE_CHARS + 1)
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"file: cannot be read: {type(error).__name__}") from None
            if len(text) > MAX_FILE_CHARS:
                raise ValueError(f"file: has more than {MAX_FILE_CHARS} characters")
            found += [line.partition("#")[0].strip() for line in text.splitlines()]
        found = list(dict.fromkeys(filter(None, found)))
        if not found:
            raise ValueError("terms: none are given; name some, or a file")
        if len(found) > MAX_TERMS:
            raise ValueError(f"terms: {len(found)} are given, and at most {MAX_TERMS} are taken")
        if any(len(term) > MAX_TERM_CHARS for term in found):
            raise ValueError(f"terms: one has more than {MAX_TERM_CHARS} characters")
        return tuple(found)


class PatternsConfig(Model):
    """Regular expressions of RE2, which take linear time whatever the text."""

    kind: Literal["patterns"]
    patterns: dict[
        Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")],
        Annotated[str, Field(min_length=1, max_length=2000)],
    ] = Field(min_length=1, max_length=100, description="by name, which stands in `[name]`")
    max_chars: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="how many rounds a repeat without end (`*`, `+`) goes on for; so much of a"
        " stream is held back at most",
    )
    whole_text: bool = Field(
        False, description="hold back the whole answer, for expressions that need it"
    )


class SecretsConfig(Model):
    """Keys and tokens by their forms, and private keys."""

    kind: Literal["secrets"]
    kinds: tuple[str, ...] | None = Field(
        None, min_length=1, description="which; unset: all that are known"
    )
    detect_secrets: bool = Field(
        False,
        description="Yelp's plugins as well (an extra): they hold back whole answers",
    )


class PiiConfig(Model):
    """What tells who somebody is: by form and checksum."""

    kind: Literal["pii"]
    kinds: tuple[str, ...] | None = Field(
        None, min_length=1, description="which; unset: email, phone, card, iban, us_ssn"
    )
    region: str | None = Field(
        None,
        pattern=r"^[A-Z]{2}$",
        description="whose telephone numbers are known without their country's code",
    )


class InjectionConfig(Model):
    """Words that mean to turn a model round. A signal, and no more than that."""

    kind: Literal["injection"]
    kinds: tuple[str, ...] | None = Field(
        None, min_length=1, description="which signs; unset: all that are known"
    )
    least_score: Share = Field(
        0.5, description="of all signs of a request, or of a run of an answer, together: to block"
    )


class PresidioConfig(Model):
    """Names, places and what else needs a language model: Microsoft's Presidio, an extra. Whole
    answers are held back for it."""

    kind: Literal["presidio"]
    entities: tuple[str, ...] | None = Field(
        None, min_length=1, description="as presidio calls them; unset: those of no single country"
    )
    language: str = Field("en", pattern=r"^[a-z]{2}$")
    least_score: Share = 0.5


class AskingConfig(Model):
    """What those that ask somebody have in common."""

    when: Literal["before", "after"] = Field(
        "before",
        description="of an answer: before: it is held until it was looked at; after: it goes out,"
        " and what turns out bad is taken back (gRPC), or ends there",
    )
    check_every_chars: int = Field(
        0,
        ge=0,
        le=200_000,
        description="of an answer: it is asked whenever so much more has come, at the end of a"
        " sentence if there is one; 0: once, when the answer is whole",
    )
    overlap_chars: int = Field(
        200, ge=0, le=10_000, description="of what was looked at before, shown again"
    )
    messages: Literal["all", "new"] = Field(
        "all",
        description="of a request: new: what stands behind the last turn of the assistant, which"
        " costs less; a caller may then hide a text in front of a turn that it made up",
    )
    max_chars: int = Field(
        100_000,
        ge=256,
        le=2_000_000,
        description="the longest text that it is shown; a longer one cannot be looked at (`fail`)",
    )
    at_once: int = Field(32, ge=1, le=1_000, description="questions at a time, of one worker")


class ModerationConfig(AskingConfig):
    """A provider's `/moderations`, as OpenAI's."""

    kind: Literal["moderation"]
    provider: str = Field(description="the row that is asked")
    model: str = "omni-moderation-latest"
    categories: dict[str, Share] = Field(
        default_factory=dict,
        description="from which score on one counts; empty: whatever the provider flags",
    )


class WebhookScanConfig(AskingConfig):
    """An address of the operator's own, asked by a signed POST."""

    kind: Literal["webhook"]
    url: Secret = Field(description="https; http for this machine alone")
    secret: Secret = Field(
        description="signs what is sent: at least 32 characters, as ${NAME} or ${file:PATH}"
    )
    ca_file: str | None = Field(
        None, description="PEM file of the only trusted roots; unset: those of the machine"
    )

    allow_private: AllowPrivate = None

    @field_validator("ca_file")
    @classmethod
    def _readable(cls, value: str | None, info: ValidationInfo) -> str | None:
        return readable_file(value, info)

    @field_validator("url", mode="before")
    @classmethod
    def _references(cls, value: object, info: ValidationInfo) -> object:
        return expand_secret(value, info)

    @field_validator("url")
    @classmethod
    def _url(cls, value: Secret) -> Secret:
        return signed_address(value)

    @field_validator("secret", mode="before")
    @classmethod
    def _look_up(cls, value: object, info: ValidationInfo) -> object:
        return resolve_secret(value, surroundings(info))

    @field_validator("secret")
    @classmethod
    def _secret(cls, value: Secret) -> Secret:
        if len(value.get_secret_value()) < LEAST_SECRET_CHARS:
            raise ValueError(f"at least {LEAST_SECRET_CHARS} characters are needed")
        return value


class JudgeScanConfig(AskingConfig):
    """A model, asked by the relay whether a text keeps a rule."""

    kind: Literal["judge"]
    model: str = Field(description="an alias, or PROVIDER/MODEL: who judges")
    rule: str = Field(
        min_length=1, max_length=8_000, description="what a text must not do, in plain words"
    )


TextScan = (
    DeniedConfig | PatternsConfig | SecretsConfig | PiiConfig | InjectionConfig | PresidioConfig
)
AskingScan = ModerationConfig | WebhookScanConfig | JudgeScanConfig
AnyScan = TextScan | AskingScan

KINDS: Mapping[str, type[BaseModel]] = {
    "denied": DeniedConfig,
    "patterns": PatternsConfig,
    "secrets": SecretsConfig,
    "pii": PiiConfig,
    "injection": InjectionConfig,
    "presidio": PresidioConfig,
    "moderation": ModerationConfig,
    "webhook": WebhookScanConfig,
    "judge": JudgeScanConfig,
}
