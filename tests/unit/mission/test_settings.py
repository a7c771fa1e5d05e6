"""The settings that both sides share."""

from __future__ import annotations

import pytest

from mission.errors import SettingsError
from mission.model import MASK
from mission.settings import Settings, mask_password, split_list


def test_a_list_is_trimmed_and_its_empty_items_dropped() -> None:
    assert split_list(" a, b ,,c,") == ("a", "b", "c")


def test_without_any_variable_the_defaults_hold() -> None:
    settings = Settings.from_env()
    assert settings.redis_url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert (settings.queue_limit, settings.max_age, settings.url_key) == (1_000_000, 86400, None)


def test_a_variable_is_read_with_its_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_MAX_AGE", "2h")
    assert Settings.from_env().max_age == 7200


@pytest.mark.parametrize("variable", ["DECODER_IDENTITY_FILE", "DECODER_REDIS_CA_FILE", "DECODER_REDIS_KEY_FILE"])
def test_an_empty_variable_names_no_file(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "")
    settings = Settings.from_env()
    assert (settings.identity_file, settings.redis_ca_file, settings.redis_key_file) == (None, None, None)


def test_an_override_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_MAX_AGE", "2h")
    assert Settings.from_env(max_age="1h").max_age == 3600


def test_settings_do_not_change() -> None:
    with pytest.raises(Exception, match="frozen"):
        Settings.from_env().max_age = 1.0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DECODER_MAX_AGE", "soon"),
        ("DECODER_MAX_AGE", "0s"),
        ("DECODER_QUEUE_LIMIT", "0"),
        ("DECODER_QUEUE_LIMIT", "many"),
        ("DECODER_QUOTA", "600"),
        ("DECODER_QUOTA", "0/minute"),
        ("DECODER_QUOTA", "600/fortnight"),
        ("DECODER_REDIS_REPLICAS", "-1"),
        ("DECODER_REDIS_TIMEOUT", "2m"),
        ("DECODER_LEDGER_TTL", "-1d"),
    ],
)
def test_a_bad_value_is_one_line_with_variable_value_and_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        Settings.from_env()
    name = variable.removeprefix("DECODER_").lower()
    assert str(caught.value) == f"{variable}: got {value!r}; takes {Settings.model_fields[name].description}"


@pytest.mark.parametrize(
    "url",
    [
        "http://:pass-word@redis.example:6379/0",
        "redis://",
        "redis://:pass-word@redis.example:port/0",
        "pass-word",
        "redis://:pass-word\udcff@redis.example",
    ],
)
def test_a_bad_redis_url_is_refused_without_being_repeated(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DECODER_REDIS_URL", url)
    with pytest.raises(SettingsError) as caught:
        Settings.from_env()
    assert str(caught.value).startswith(f"DECODER_REDIS_URL: got {MASK}; takes ")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("quota", "rate"),
    [("600/minute", (600, 60)), ("5/second", (5, 1)), ("1/hour", (1, 3600)), ("9/day", (9, 86400)), ("", (0, 0))],
)
def test_a_quota_is_missions_in_seconds(monkeypatch: pytest.MonkeyPatch, quota: str, rate: tuple[int, int]) -> None:
    monkeypatch.setenv("DECODER_QUOTA", quota)
    assert Settings.from_env().quota_rate == rate


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://:word@redis.example:6379/0", f"redis://:{MASK}@redis.example:6379/0"),
        ("rediss://user:w%40rd@redis.example/0", f"rediss://user:{MASK}@redis.example/0"),
        (
            "rediss+sentinel://:word@a.example:1,b.example:2/main",
            f"rediss+sentinel://:{MASK}@a.example:1,b.example:2/main",
        ),
        ("sentinel://user:word@a.example:1,b.example:2/main", f"sentinel://user:{MASK}@a.example:1,b.example:2/main"),
        ("redis://user@redis.example/0", "redis://user@redis.example/0"),
        ("redis://redis.example:6379/0", "redis://redis.example:6379/0"),
    ],
)
def test_a_redis_url_is_shown_without_its_password(url: str, masked: str) -> None:
    assert mask_password(url) == masked


def test_described_settings_show_no_key_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_URL_KEY", "the-url-key")
    monkeypatch.setenv("DECODER_REDIS_URL", "redis://:the-password@redis.example:6379/0")
    settings = Settings.from_env()
    shown = {row["variable"]: row["value"] for row in settings.describe()}
    assert shown["DECODER_URL_KEY"] == MASK
    assert shown["DECODER_REDIS_URL"] == f"redis://:{MASK}@redis.example:6379/0"
    assert "the-" not in repr(settings) + str(settings)


def test_described_settings_say_what_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_MAX_AGE", "90m")
    rows = {row["variable"]: row for row in Settings.from_env().describe()}
    assert rows["DECODER_MAX_AGE"] == {
        "variable": "DECODER_MAX_AGE",
        "value": "90m",
        "set": "yes",
        "takes": "lifetime of a mission, like 24h, up to 3650d",
    }
    assert rows["DECODER_QUOTA"]["value"] == ""
    assert rows["DECODER_LEDGER_TTL"] == rows["DECODER_LEDGER_TTL"] | {"value": "30d", "set": "default"}


def test_every_setting_says_what_it_takes() -> None:
    assert all(row["takes"] for row in Settings.from_env().describe())


def test_a_variable_that_is_nearly_a_setting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DECODER_REDS_URL", "DECODER_URLKEY", "DECODER_SERVICE_HOST", "DECODER_REDIS_URL", "REDS_URL"):
        monkeypatch.setenv(name, "sesame")
    assert Settings.misspelt() == [
        "DECODER_REDS_URL is not a setting: did you mean DECODER_REDIS_URL?",
        "DECODER_URLKEY is not a setting: did you mean DECODER_URL_KEY?",
    ]
