"""The file of credentials: its valid content, the URLs that it applies to, and changes while a worker runs."""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from pathlib import Path

import pytest

from mission.errors import SettingsError
from mission.url import parse_url
from worker.fetch.credentials import Credentials
from worker.fetch.dns import Resolver
from worker.fetch.fetcher import Fetcher
from worker.fetch.policy import UrlPolicy
from worker.fetch.wire import Limits
from worker.keys import refresh
from worker.observe import metrics
from worker.settings import WorkerSettings

HOSTS = (
    *("docs.example.com", "docs.example.com:443", "docs.example.com:8443", "*.example.com", "*.deep.example.com"),
    *("wiki.example.org", "bücher.example", "127.0.0.1:8080", "[::1]:8080", "10.0.0.1:8080", "login.example.org"),
)
# Parts of each entry's value: no error may contain one of them.
VALUE = secrets.token_urlsafe(24)
OAUTH2 = f"""
["wiki.example.org".oauth2]
token-url = "https://login.example.org/token"
client-id = "decoder"
client-secret = "{VALUE}"
"""
LIMITS = Limits(time.monotonic() + 3600, 1, 1)


@pytest.fixture(autouse=True)
def _read_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "REFRESH_SECONDS", 0.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "credentials.toml"


def write(file: Path, text: str, mode: int = 0o600) -> None:
    file.write_text(text)
    file.chmod(mode)


def settings_of(file: Path, egress_proxy: str = "") -> WorkerSettings:
    return WorkerSettings.from_env(
        credentials=file,
        allowed_hosts=",".join(HOSTS),
        allowed_schemes="http,https",
        allowed_networks="127.0.0.0/8,::1/128,10.0.0.0/8",
        egress_proxy=egress_proxy,
    )


def make(file: Path, text: str | None = None, egress_proxy: str = "") -> Credentials:
    if text is not None:
        write(file, text)
    settings = settings_of(file, egress_proxy)
    return Credentials(settings, UrlPolicy.from_settings(settings))


def sent(credentials: Credentials, url: str) -> dict[str, str]:
    """The header fields that go to a URL, without a token server."""
    found = credentials.of(parse_url(url))
    return {} if found is None else dict(found.fields(lambda *_: pytest.fail("nobody is asked for a token"), LIMITS))


def headers(entry: str, value: str = VALUE, name: str = "X-Key") -> str:
    return f'["{entry}".headers]\n{name} = "{value}"\n'


def test_without_a_file_nothing_has_credentials() -> None:
    settings = WorkerSettings.from_env(allowed_hosts="docs.example.com")
    assert Credentials(settings, UrlPolicy.from_settings(settings)).of(parse_url("https://docs.example.com/")) is None


def test_header_fields_stand_in_the_file_or_in_files_beside_it_or_elsewhere(file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write(file.parent / "key", f"{VALUE}1\n")
    write(elsewhere / "cookie", f"a={VALUE}2")
    text = headers("wiki.example.org", f"Bearer {VALUE}", "Authorization")
    text += f'["wiki.example.org".header-files]\nX-Api-Key = "key"\nCookie = "{elsewhere / "cookie"}"\n'
    assert sent(make(file, text), "https://wiki.example.org/a") == {
        "Authorization": f"Bearer {VALUE}",
        "X-Api-Key": f"{VALUE}1",
        "Cookie": f"a={VALUE}2",
    }


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("https://docs.example.com/", "docs.example.com:443"),
        ("https://DOCS.example.com.:443/", "docs.example.com:443"),
        ("https://docs.example.com:8443/", "docs.example.com:8443"),
        ("https://a.example.com/", "*.example.com"),
        ("https://a.b.example.com/", "*.example.com"),
        ("https://a.deep.example.com/", "*.deep.example.com"),
        ("https://deep.example.com/", "*.example.com"),
        ("https://xn--bcher-kva.example/", "bücher.example"),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("https://10.0.0.1:8080/", "10.0.0.1:8080"),
        ("https://wiki.example.org/", "wiki.example.org"),
        ("https://example.com/", None),
        ("https://a.example.com:8443/", None),
        ("https://docs.example.com:444/", None),
        ("https://other.example/", None),
        # In the clear, to another machine.
        ("http://wiki.example.org/", None),
        ("http://docs.example.com:443/", None),
        ("http://10.0.0.1:8080/", None),
    ],
)
def test_the_most_specific_entry_that_opens_a_url_decides(file: Path, url: str, entry: str | None) -> None:
    text = "".join(headers(host, f"value-of-{host.encode().hex()}") for host in HOSTS)
    assert sent(make(file, text), url) == ({} if entry is None else {"X-Key": f"value-of-{entry.encode().hex()}"})


def test_through_a_proxy_nothing_goes_along_in_clear_to_a_loopback_address_either(file: Path) -> None:
    proxy = "http://proxy.example:3128"
    credentials = make(file, headers("127.0.0.1:8080") + headers("wiki.example.org"), proxy)
    assert sent(credentials, "http://127.0.0.1:8080/") == {}
    assert (
        sent(credentials, "https://127.0.0.1:8080/")
        == sent(credentials, "https://wiki.example.org/")
        == {"X-Key": VALUE}
    )
    clear = OAUTH2.replace("https://login.example.org", "http://127.0.0.1:8080")
    make(file, clear)
    with pytest.raises(SettingsError, match="token-url takes https://"):
        make(file, clear, proxy)


def test_an_entry_without_credentials_takes_over_none_of_a_wildcard_or_of_another_port(file: Path) -> None:
    credentials = make(file, headers("*.example.com") + headers("docs.example.com"))
    assert sent(credentials, "https://docs.example.com/") == {}  # docs.example.com:443 is more specific
    assert sent(credentials, "https://docs.example.com:8443/") == {}
    assert sent(credentials, "https://a.deep.example.com/") == {}
    assert sent(credentials, "https://a.example.com/") == {"X-Key": VALUE}


BAD = [
    ("nonsense\n", "is not valid TOML (at line 1, column 9)"),
    (f'["docs.example.com".headers]\nX-Key = {VALUE}', "is not valid TOML (at line 2, column"),
    (f'X-Key = "{VALUE}"', "takes tables named by entries of DECODER_ALLOWED_HOSTS"),
    (f'[docs.example.com.headers]\nX-Key = "{VALUE}"', '"docs" is not an entry of DECODER_ALLOWED_HOSTS'),
    (f'["https://docs.example.com/".headers]\nX-Key = "{VALUE}"', "takes tables named by entries"),
    (headers("*.docs.example.com"), '"*.docs.example.com" is not an entry of DECODER_ALLOWED_HOSTS'),
    (headers("wiki.example.org:443"), '"wiki.example.org:443" is not an entry of DECODER_ALLOWED_HOSTS'),
    (headers("docs.example.com") + headers("DOCS.example.com"), '"docs.example.com" has two tables'),
    ('["docs.example.com"]', "takes headers, header-files, oauth2"),
    ('["docs.example.com".headers]', "takes headers, header-files, oauth2"),
    (f'["docs.example.com"]\nX-Key = "{VALUE}"', "takes a table of headers, header-files, oauth2"),
    ('["docs.example.com".headers]\nX-Key = 7', "headers takes names with non-empty strings"),
    ('["docs.example.com".headers]\nX-Key = ""', "headers takes names with non-empty strings"),
    (f'["docs.example.com".headers]\n"{VALUE}:" = "X-Key"', "a header's name takes letters, digits and hyphens"),
    (headers("docs.example.com", f"{VALUE}\\r\\nX-More: 1"), "a header's value takes printable ASCII"),
    (headers("docs.example.com", f"{VALUE}\\u0000"), "a header's value takes printable ASCII"),
    (headers("docs.example.com", f"{VALUE}ä"), "a header's value takes printable ASCII"),
    (headers("docs.example.com", f" {VALUE}"), "a header's value takes printable ASCII"),
    *(
        (headers("docs.example.com", name=name), f"the header {name} is not for credentials")
        for name in (
            *("Host", "host", "Content-Length", "Transfer-Encoding", "Connection", "Accept-Encoding", "TE", "Accept"),
            *("User-Agent", "Upgrade", "Proxy-Authorization", "Keep-Alive", "Trailer", "Expect", "Range"),
        )
    ),
    (headers("docs.example.com") + '["docs.example.com".header-files]\nx-key = "key"', "a header is named twice"),
    (headers("wiki.example.org", name="authorization") + OAUTH2, "a header is named twice; oauth2 sets Authorization"),
    (f'["docs.example.com".header-files]\nX-Key = "{VALUE}"', "names a file that does not exist"),
    (f'["docs.example.com".header-files]\nX-Key = "{VALUE * 20}"', "names a file that does not exist"),
    (f'["docs.example.com".header-files]\nX-Key = "\\u0000{VALUE}"', "names a file that does not exist"),
    ('["docs.example.com".header-files]\nX-Key = "."', "Is a directory"),
    ('["docs.example.com".header-files]\nX-Key = "two"', "a header's value takes printable ASCII"),
    ('["docs.example.com".header-files]\nX-Key = "binary"', "takes UTF-8"),
    ('["docs.example.com".header-files]\nX-Key = "open"', "run `chmod 600"),
    (OAUTH2.replace("client-id", "client_id"), "takes a table of token-url, client-id"),
    (OAUTH2.replace('client-id = "decoder"', ""), "oauth2 takes client-id, and client-secret or client-secret-file"),
    (OAUTH2.replace("client-secret", "scope"), "oauth2 takes client-id, and client-secret or client-secret-file"),
    (OAUTH2 + 'client-secret-file = "key"', "oauth2 takes client-id, and client-secret or client-secret-file"),
    (OAUTH2 + 'secret-in = "url"', "secret-in takes header or body"),
    (OAUTH2 + 'parameters = {client_secret = "x"}', "parameters takes names other than client_id, client_secret"),
    (OAUTH2 + "parameters = {max = 1}", "parameters takes names with non-empty strings"),
    (OAUTH2.replace("token-url", "scope"), "token-url: invalid_url"),
    (OAUTH2.replace("login.example.org", "else.example.org"), "token-url: host_not_allowed; takes a URL that"),
    (OAUTH2.replace("login.example.org", "login.example.org:8443"), "token-url: port_not_allowed; takes a URL that"),
    (OAUTH2.replace("https://login.example.org", "http://login.example.org"), "token-url takes https://"),
    (OAUTH2.replace("https://login.example.org", "https://169.254.169.254"), "token-url: host_not_allowed"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD, ids=[sentence for _, sentence in BAD])
def test_a_bad_file_is_refused_at_the_start_in_a_line_that_repeats_nothing_secret(
    file: Path, text: str, sentence: str
) -> None:
    write(file.parent / "key", VALUE)
    write(file.parent / "two", f"{VALUE}\n\n")
    (file.parent / "binary").write_bytes(b"\xff" + VALUE.encode())
    (file.parent / "binary").chmod(0o600)
    write(file.parent / "open", VALUE, 0o644)
    with pytest.raises(SettingsError) as caught:
        make(file, text)
    line = str(caught.value)
    assert re.match(f"DECODER_CREDENTIALS: (cannot read )?{file.parent}", line)
    assert sentence in line
    assert "\n" not in line
    assert VALUE.lower() not in line.lower()


def test_a_file_that_is_not_there_is_refused(file: Path) -> None:
    with pytest.raises(SettingsError, match=r"DECODER_CREDENTIALS: .*: No such file or directory"):
        make(file)


@pytest.mark.parametrize("mode", [0o644, 0o602, 0o601])
def test_a_file_that_is_open_to_others_is_refused(file: Path, mode: int) -> None:
    write(file, headers("docs.example.com"), mode)
    with pytest.raises(SettingsError, match=rf"holds credentials and is open to others \(mode 0{mode:o}\): run `chmod"):
        make(file)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_group_may_read_it_as_kubernetes_mounts_it(file: Path, mode: int) -> None:
    """A Secret's files are links through another link to the folder of the generation."""
    generation = file.parent / "..2026_01_01"
    generation.mkdir()
    text = '["wiki.example.org".header-files]\nX-Key = "key"\n'
    for name, content in {file.name: text, "key": VALUE}.items():
        write(generation / name, content, mode)
        (file.parent / name).symlink_to(Path("..data") / name)
    (file.parent / "..data").symlink_to(generation.name)
    assert sent(make(file), "https://wiki.example.org/") == {"X-Key": VALUE}


def test_a_change_of_the_file_or_of_one_it_names_is_seen_without_a_restart(file: Path) -> None:
    write(file.parent / "key", "one")
    credentials = make(file, '["wiki.example.org".header-files]\nX-Key = "key"\n')
    write(file.parent / "key", "two")
    assert sent(credentials, "https://wiki.example.org/") == {"X-Key": "two"}
    write(file, headers("bücher.example"))
    assert sent(credentials, "https://wiki.example.org/") == {}
    assert sent(credentials, "https://bücher.example/") == {"X-Key": VALUE}


def test_it_is_not_read_for_every_request(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "REFRESH_SECONDS", 3600.0)
    credentials = make(file, headers("wiki.example.org", "one"))
    write(file, headers("wiki.example.org", "two"))
    assert sent(credentials, "https://wiki.example.org/") == {"X-Key": "one"}


@pytest.mark.parametrize("damage", ["text", "mode", "gone", "entry"])
def test_a_file_that_turns_bad_keeps_what_it_said_is_logged_once_and_counted(
    file: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = headers("wiki.example.org")
    credentials, settings = make(file, good), settings_of(file)
    Fetcher(settings, UrlPolicy.from_settings(settings), Resolver(threads=1))  # it shows the metric
    match damage:
        case "text":
            write(file, f'["wiki.example.org".headers]\nX-Key = "{VALUE}')
        case "mode":
            file.chmod(0o644)
        case "gone":
            file.unlink()
        case "entry":
            write(file, good + headers("gone.example"))
    assert [sent(credentials, "https://wiki.example.org/") for _ in range(3)] == [{"X-Key": VALUE}] * 3
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert credentials.bad()
    assert re.match(f"DECODER_CREDENTIALS: (cannot read )?{file}", line)
    assert line.endswith("; its last valid content stays in use")
    assert metrics.REGISTRY.get_sample_value("decoder_bad_credentials") == 1
    write(file, headers("wiki.example.org", "new"))
    assert metrics.REGISTRY.get_sample_value("decoder_bad_credentials") == 0  # a scrape looks, without traffic
    assert sent(credentials, "https://wiki.example.org/") == {"X-Key": "new"}


def test_changes_are_logged_by_entry_alone(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    credentials = make(file, headers("wiki.example.org") + headers("docs.example.com"))
    write(file, headers("wiki.example.org", VALUE + "2") + headers("bücher.example"))
    sent(credentials, "https://wiki.example.org/")
    sent(credentials, "https://wiki.example.org/")
    assert [record.getMessage() for record in caplog.records] == [
        "credentials of docs.example.com: set",
        "credentials of wiki.example.org: set",
        "credentials of docs.example.com: gone",
        "credentials of wiki.example.org: changed",
        "credentials of xn--bcher-kva.example: set",
    ]
    assert VALUE not in repr([vars(record) for record in caplog.records])


def test_an_entry_that_says_the_same_keeps_its_token(file: Path) -> None:
    credentials = make(file, OAUTH2)
    url = parse_url("https://wiki.example.org/")
    before = credentials.of(url)
    write(file, OAUTH2 + headers("docs.example.com"))
    assert credentials.of(url) is before
    write(file, OAUTH2.replace(VALUE, VALUE + "2"))
    after = credentials.of(url)
    assert after is not None
    assert before is not None
    assert after.token is not before.token


def test_reprs_show_nothing(file: Path) -> None:
    credentials = make(file, OAUTH2 + headers("docs.example.com"))
    for url in ("https://wiki.example.org/", "https://docs.example.com:443/"):
        found = credentials.of(parse_url(url))
        shown = repr((credentials, found, found and found.grant, found and found.token))
        assert VALUE not in shown
        assert "decoder-id" not in shown


def test_a_file_of_a_mebibyte_is_read_and_a_larger_one_is_not(file: Path) -> None:
    text = headers("wiki.example.org")
    write(file, text + "#" * (1024 * 1024 - len(text)))
    assert sent(make(file), "https://wiki.example.org/") == {"X-Key": VALUE}
    os.truncate(file, 1024 * 1024 + 1)
    with pytest.raises(SettingsError, match="up to 1048576 bytes"):
        make(file)
