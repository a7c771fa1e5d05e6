from __future__ import annotations

import pytest

from tests.credentials import AWS_SECRET, GITHUB_TOKEN, PASSWORD
from worker.extract.placeholders import is_placeholder


@pytest.mark.parametrize(
    ("category", "before", "value"),
    [
        ("generic-credential-uri", "https://user:", "password"),
        ("generic-credential-uri", "postgres://shop:", "shop"),
        ("generic-credential-uri", "redis://a:", "$TOKEN"),
        ("curl-auth-header", "Authorization: Bearer ", "YOUR_ACCESS_TOKEN"),
        ("curl-auth-header", "Authorization: Basic ", "dXNlcjpwYXNz" + "d29yZA=="),
        ("curl-auth-user", "-u ", '"$USER:$PASSWORD"'),
        ("github-pat", "", "ghp_" + "x" * 36),
        ("private-key", "", "-----BEGIN PRIVATE KEY-----\nfake\n-----END PRIVATE KEY-----"),
        ("aws-secret-access-key", "token = ", AWS_SECRET),
    ],
)
def test_words_and_other_things_of_the_shape_are_no_credentials(category: str, before: str, value: str) -> None:
    assert is_placeholder(category, value, f"{before}{value}", len(before))


@pytest.mark.parametrize(
    ("category", "before", "value"),
    [
        ("generic-credential-uri", "https://user:", PASSWORD),
        ("curl-auth-user", "-u ", f"admin:{PASSWORD}"),
        ("github-pat", "", GITHUB_TOKEN),
        ("aws-secret-access-key", "aws_secret = ", AWS_SECRET),
    ],
)
def test_credentials_are(category: str, before: str, value: str) -> None:
    assert not is_placeholder(category, value, f"{before}{value}", len(before))
