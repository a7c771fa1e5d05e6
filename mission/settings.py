"""The settings that producer and worker share: environment variables with the prefix `DECODER_`.

A bad value raises a `SettingsError` of one line: the variable, the value it got, the value it takes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mission.errors import SettingsError
from mission.files import distrust
from mission.model import MASK
from mission.units import format_duration, format_size, parse_duration

PREFIX = "DECODER_"
TEN_YEARS = 3650 * 86400.0


def split_list(value: object) -> object:
    """The items of a comma-separated list, trimmed and without empty ones."""
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(format_duration)]
Size = Annotated[ByteSize, PlainSerializer(format_size)]
# An empty variable means no file: without this it would be the working directory.
Place = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_list)]

_HOST_PORT = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
_QUOTA = re.compile(r"(\d+)/(second|minute|hour|day)")
_QUOTA_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


class Settings(BaseSettings):
    """The settings of both sides. Field descriptions say what a variable takes; `decoder settings` prints them."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    TRUSTED: ClassVar = frozenset({"redis_ca_file", "redis_cert_file", "redis_key_file"})
    # Only the password in these is secret.
    URLS: ClassVar = frozenset({"redis_url"})

    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="URL of broker and ledger: redis://, rediss://, sentinel://HOST,HOST/MASTER or rediss+sentinel://",
    )
    redis_ca_file: Place = Field(
        None,
        description="file of CA certificates to trust for Redis, instead of the system's; with rediss:// or rediss+sentinel://",
    )
    redis_cert_file: Place = Field(None, description="file of the client certificate for Redis; with TLS as above")
    redis_key_file: Place = Field(None, description="file of the client certificate's private key; with TLS as above")
    redis_replicas: int = Field(0, ge=0, le=10, description="replicas that must hold an admission or a commit, 0 to 10")
    redis_timeout: Duration = Field(5.0, gt=0, le=60, description="seconds that Redis may take to answer, up to 60s")
    url_key: SecretStr | None = Field(
        None,
        description="URL key (`decoder keys generate --url-key FILE`), inline or a file; comma-separated: the first writes",
    )
    queue_limit: int = Field(1_000_000, ge=1, description="unfinished missions that the ledger may hold, 1 or more")
    quota: str | None = Field(None, description="missions for each submitter, like 600/minute")
    stored_quota: Annotated[Size, BeforeValidator(lambda value: value or 0)] = Field(
        ByteSize(128 * 1024 * 1024),
        ge=0,
        le=1024**4,
        description="bytes of results that one submitter may have stored at a time, like 128MiB, up to 1TiB; 0: no limit",
    )
    max_age: Duration = Field(86400.0, gt=0, le=TEN_YEARS, description="lifetime of a mission, like 24h, up to 3650d")
    ledger_ttl: Duration = Field(
        30 * 86400.0,
        gt=0,
        le=TEN_YEARS,
        description="how long a finished mission stays in the ledger, like 30d, up to 3650d",
    )
    audit_ttl: Duration = Field(
        365 * 86400.0, gt=0, le=TEN_YEARS, description="how long audit entries stay, like 365d, up to 3650d"
    )
    identity_file: Place = Field(None, description="file of the reader's identity; never on a worker")

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: SecretStr) -> SecretStr:
        value.get_secret_value().encode()  # lone surrogates are refused here: UnicodeEncodeError is a ValueError
        parts = urlsplit(value.get_secret_value())
        hosts = [_HOST_PORT.fullmatch(host) for host in parts.netloc.rpartition("@")[2].split(",")]
        if parts.scheme not in ("redis", "rediss", "sentinel", "rediss+sentinel"):
            raise ValueError("not a Redis URL")
        if not all(host and 0 < int((host[2] or ":1")[1:]) < 65536 for host in hosts):
            raise ValueError("not a host, or not a port")
        path = parts.path.strip("/")
        sentinel = parts.scheme.endswith("sentinel")
        if sentinel and not path:
            raise ValueError("no name of the master")
        if not sentinel and (len(hosts) > 1 or (path and not path.isdecimal())):
            raise ValueError("one host, and the number of a database")
        if parts.query or parts.fragment:  # `?ssl_cert_reqs=none` would override our own options
            raise ValueError("not a Redis URL")
        return value

    @field_validator("redis_ca_file", "redis_cert_file", "redis_key_file")
    @classmethod
    def _check_readable(cls, value: Path | None) -> Path | None:
        if value is not None and not (value.is_file() and os.access(value, os.R_OK)):
            raise ValueError("not a file that can be read")
        return value

    @field_validator("quota")
    @classmethod
    def _check_quota(cls, value: str | None) -> str | None:
        if value and not ((match := _QUOTA.fullmatch(value)) and int(match[1])):
            raise ValueError("not a quota")
        return value or None

    @model_validator(mode="after")
    def _check_trust(self) -> Self:
        """Refuse files that every user may change: such a change would decide whom the decoder trusts."""
        for name in sorted(self.TRUSTED):
            if (path := getattr(self, name)) and (problem := distrust(path)):
                raise ValueError(f"{PREFIX}{name.upper()}: {problem}")
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        """Refuse certificates without a TLS URL: the connection would be unencrypted."""
        for name in ("redis_ca_file", "redis_cert_file", "redis_key_file"):
            if getattr(self, name) and not self.redis_tls:
                raise ValueError(
                    f"{PREFIX}{name.upper()}: got a file; takes effect only with rediss:// or rediss+sentinel:// in {PREFIX}REDIS_URL"
                )
        return self

    @property
    def redis_tls(self) -> bool:
        """Whether connections to Redis and any Sentinels use TLS."""
        return self.redis_url.get_secret_value().startswith("rediss")

    @property
    def redis_sentinel(self) -> bool:
        """Whether Sentinels locate the master."""
        return self.redis_url.get_secret_value().partition("://")[0].endswith("sentinel")

    @property
    def quota_rate(self) -> tuple[int, int]:
        """The quota as (missions, seconds); (0, 0) if no quota is set."""
        match = _QUOTA.fullmatch(self.quota or "")
        return (int(match[1]), _QUOTA_SECONDS[match[2]]) if match else (0, 0)

    @classmethod
    def from_env(cls, **overrides: Any) -> Self:
        """Read the environment; `overrides` win over it.

        Raises:
            SettingsError: one line about the first bad value.
        """
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise SettingsError(cls._explain(error, overrides)) from None

    @classmethod
    def _explain(cls, error: ValidationError, overrides: Mapping[str, Any]) -> str:
        problem = error.errors(include_input=False)[0]
        if not problem["loc"]:
            return problem["msg"].removeprefix("Value error, ")
        name = str(problem["loc"][0])
        field = cls.model_fields[name]
        variable = PREFIX + name.upper()
        raw = overrides.get(name, os.environ.get(variable, os.environ.get(variable.lower(), "")))
        got = MASK if is_secret(field) else repr(str(raw)[:80])
        return f"{variable}: got {got}; takes {field.description}"

    @classmethod
    def misspelt(cls) -> list[str]:
        """A sentence about each environment variable that is nearly the name of a setting."""
        sentences = []
        for name in sorted(name for name in os.environ if name.upper().startswith(PREFIX)):
            field = name[len(PREFIX) :].lower()
            close = get_close_matches(field, cls.model_fields, 1, cutoff=0.8)
            if close and field not in cls.model_fields:
                sentences.append(f"{name} is not a setting: did you mean {PREFIX}{close[0].upper()}?")
        return sentences

    def describe(self) -> list[dict[str, str]]:
        """Each setting: variable, current value (secrets masked), and the value it takes."""
        dumped = self.model_dump(mode="json")
        return [
            {
                "variable": PREFIX + name.upper(),
                "value": self._shown(name, field, dumped[name]),
                "set": "yes" if name in self.model_fields_set else "default",
                "takes": field.description or "",
            }
            for name, field in type(self).model_fields.items()
        ]

    @classmethod
    def defaults(cls) -> list[dict[str, str]]:
        """The same for the defaults only; the environment is ignored."""
        return cls.model_construct().describe()

    def _shown(self, name: str, field: FieldInfo, value: object) -> str:
        current = getattr(self, name)
        if current is None or current == ():
            return ""
        if name in self.URLS:
            return mask_password(current.get_secret_value())
        if is_secret(field):
            return MASK
        if isinstance(current, bool):
            return str(current).lower()
        return ",".join(map(str, current)) if isinstance(current, tuple) else str(value)


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting's value must never be shown."""
    return "SecretStr" in str(field.annotation)


def mask_password(url: str) -> str:
    """A URL with its password masked."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{MASK}@{host}"))
