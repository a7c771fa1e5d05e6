"""The file of credentials (`DECODER_CREDENTIALS`): TOML with a table for each allowlist entry that requires a login.

    ["docs.example.com".headers]        header fields and their values
    ["docs.example.com".header-files]   header fields, and files that contain their values
    ["docs.example.com".oauth2]         token-url, client-id, client-secret or client-secret-file; scope, parameters, secret-in

Paths are absolute or relative to the TOML file's folder.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mission.errors import MissionFailed, SettingsError
from mission.files import open_to_others
from mission.url import MissionUrl, parse_url
from worker.allowlist import AllowedHost
from worker.fetch.oauth import Grant, Post, Token
from worker.fetch.policy import UrlPolicy
from worker.fetch.wire import Limits

MAX_FILE_BYTES = 1024 * 1024  # the size limit of a Kubernetes Secret
# Kubernetes mounts a Secret as 0440 for the pod's fsGroup.
_FORBIDDEN_MODE = 0o007

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.1
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")  # section 5.5, ASCII only
# Fields that the request already has, that apply to one connection (section 7.6.1), or that change the response's meaning.
_NOT_THEIRS = frozenset(
    {
        *("host", "user-agent", "accept", "accept-encoding", "content-length", "content-type", "content-encoding"),
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"),
        *("proxy-authorization", "proxy-authenticate", "expect", "range", "if-range"),
    }
)
_KINDS = ("headers", "header-files", "oauth2")
_GRANTS_OWN = frozenset({"grant_type", "client_id", "client_secret", "scope"})
_OAUTH2 = ("token-url", "client-id", "client-secret", "client-secret-file", "scope", "parameters", "secret-in")


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """The credential of an allowlist entry: header fields, and a grant for OAuth tokens."""

    headers: Mapping[str, str]
    grant: Grant | None = None
    token: Token | None = field(default=None, compare=False)

    def fields(self, post: Post, limits: Limits) -> Mapping[str, str]:
        """The header fields to send with a request.

        Raises:
            MissionFailed: no token is available; see `Token.field`.
        """
        if self.token is None:
            return self.headers
        return {**self.headers, "Authorization": self.token.field(post, limits)}

    def refused(self, fields: Mapping[str, str]) -> bool:
        """Record that a server answered 401 to these fields. Returns whether a retry makes sense, with new `fields`."""
        return self.token is not None and self.token.refused(fields["Authorization"])


def load(file: Path, policy: UrlPolicy) -> dict[AllowedHost, Credential]:
    """Load the credentials in a file, by allowlist entry.

    Raises:
        SettingsError: the file cannot be used. The message contains only names of entries and of existing files.
    """
    found: dict[AllowedHost, Credential] = {}
    try:
        for name, table in _toml(file).items():
            entry = _entry(name, table, policy)
            if entry in found:
                raise _Unusable(f'"{entry}" has two tables')
            try:
                found[entry] = _credential(entry, table, file.parent, policy)
            except _Unusable as problem:
                raise _Unusable(f'"{entry}": {problem}') from None
    except _Unusable as problem:
        where = "" if str(file) in str(problem) else f"{file}: "
        raise SettingsError(f"DECODER_CREDENTIALS: {where}{problem}") from None
    return found


class _Unusable(Exception):
    """The reason that a file cannot be used."""


def _toml(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(_content(file))
    except (ValueError, RecursionError) as error:
        # The rest of the error's text may repeat the file's content.
        where = re.search(r" \(at [^()]*\)\Z", str(error))
    raise _Unusable(f"is not valid TOML{where[0] if where else ''}")


def _entry(name: str, table: object, policy: UrlPolicy) -> AllowedHost:
    try:
        entry = AllowedHost.parse(name) if isinstance(table, dict) else None
    except ValueError:
        entry = None
    if entry is None:
        raise _Unusable('takes tables named by entries of DECODER_ALLOWED_HOSTS, like ["docs.example.com".headers]')
    if not policy.lists(entry):
        raise _Unusable(
            f'"{entry}" is not an entry of DECODER_ALLOWED_HOSTS; takes one exactly as written there, in quotes, with *. and port'
        )
    return entry


def _credential(entry: AllowedHost, raw: object, folder: Path, policy: UrlPolicy) -> Credential:
    table = _table(raw, *_KINDS)
    pairs = list(_texts(table.get("headers", {}), "headers").items())
    for name, path in _texts(table.get("header-files", {}), "header-files").items():
        pairs.append((name, _value_of(folder / path)))
    for name, value in pairs:
        if not _NAME.fullmatch(name):
            raise _Unusable("a header's name takes letters, digits and hyphens")
        if name.lower() in _NOT_THEIRS:
            raise _Unusable(f"the header {name} is not for credentials")
        if not _VALUE.fullmatch(value):
            raise _Unusable("a header's value takes printable ASCII, without spaces around it")
    grant = _grant(entry, table["oauth2"], folder, policy) if "oauth2" in table else None
    names = [name.lower() for name, _ in pairs] + ["authorization"] * (grant is not None)
    if len(set(names)) < len(names):
        raise _Unusable("a header is named twice; oauth2 sets Authorization")
    if not names:
        raise _Unusable(f"takes {', '.join(_KINDS)}")
    return Credential(dict(pairs), grant, None if grant is None else Token(grant))


def _grant(entry: AllowedHost, raw: object, folder: Path, policy: UrlPolicy) -> Grant:
    table = _table(raw, *_OAUTH2)
    parameters = _texts(table.pop("parameters", {}), "parameters")
    texts = _texts(table, "oauth2")
    if "client-id" not in texts or len(texts.keys() & {"client-secret", "client-secret-file"}) != 1:
        raise _Unusable("oauth2 takes client-id, and client-secret or client-secret-file")
    secret = texts.get("client-secret") or _value_of(folder / texts["client-secret-file"])
    if not _GRANTS_OWN.isdisjoint(parameters):
        raise _Unusable(f"parameters takes names other than {', '.join(sorted(_GRANTS_OWN))}")
    if (place := texts.get("secret-in", "header")) not in ("header", "body"):
        raise _Unusable("secret-in takes header or body")
    scope = {"scope": texts["scope"]} if "scope" in texts else {}
    return Grant(
        entry=str(entry),
        token_url=_token_url(texts.get("token-url", ""), policy),
        client_id=texts["client-id"],
        client_secret=secret,
        secret_in_body=place == "body",
        parameters=tuple((scope | parameters).items()),
    )


def _token_url(text: str, policy: UrlPolicy) -> MissionUrl:
    """The URL for tokens, under the same policy as documents."""
    try:
        url = parse_url(text)
        policy.check(url)
    except MissionFailed as refusal:
        raise _Unusable(f"token-url: {refusal.reason.value}; takes a URL that DECODER_ALLOWED_HOSTS allows") from None
    return url


def _table(raw: object, *known: str) -> dict[str, object]:
    if not isinstance(raw, dict) or not raw.keys() <= set(known):
        raise _Unusable(f"takes a table of {', '.join(known)}")
    return dict(raw)


def _texts(raw: object, what: str) -> dict[str, str]:
    if not isinstance(raw, dict) or not all(isinstance(value, str) and value for value in raw.values()):
        raise _Unusable(f"{what} takes names with non-empty strings")
    return dict(raw)


def _value_of(file: Path) -> str:
    """The content of a file that the TOML names, without the newline at its end."""
    if not os.path.exists(file):  # its name may be the secret itself, by mistake
        raise _Unusable("names a file that does not exist")
    return re.sub(r"\r?\n\Z", "", _content(file))


def _content(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            content = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _Unusable(f"cannot read {file}: {error.strerror}") from None
    if problem := open_to_others(file, mode, "credentials", _FORBIDDEN_MODE):
        raise _Unusable(problem)
    try:
        if len(content) <= MAX_FILE_BYTES:
            return content.decode()
    except UnicodeDecodeError:
        pass
    raise _Unusable(f"{file}: takes UTF-8, up to {MAX_FILE_BYTES} bytes")
