"""The watch after a deployment, against a server that answers as Prometheus does."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import promql_parser
import pytest

from ci.watch import Release, look, main, prometheus, watch

RELEASE = Release("production", "decoder", "abc123", 1_700_000_000)
UP, BUILD, ALERTS, RATIO = "up{", "decoder_build_info{", "ALERTS{", "decoder:errors:ratio_rate10m{"
WELL: dict[str, list[dict[str, str]]] = {UP: [{"pod": "a"}], BUILD: [{"pod": "a"}], ALERTS: [], RATIO: []}

Answers = Callable[[str], list[dict[str, str]]]


def answering(*states: dict[str, list[dict[str, str]]]) -> Answers:
    """Each query returns the next state; the last one repeats."""
    left = list(states)

    def ask(query: str) -> list[dict[str, str]]:
        if query.startswith(UP) and len(left) > 1:
            state = left.pop(0)
            current.append(state)
        elif query.startswith(UP):
            current.append(left[0])
        return next(answer for start, answer in current[-1].items() if query.startswith(start))

    current: list[dict[str, list[dict[str, str]]]] = []
    return ask


def result(*states: dict[str, list[dict[str, str]]], looks: int = 5) -> int:
    return watch(RELEASE, answering(*states), seconds=looks * 30, every=30, sleep=lambda _: None)


def test_a_quiet_hour_is_a_success() -> None:
    assert result(WELL) == 0


@pytest.mark.parametrize(
    "trouble",
    [{UP: []}, {ALERTS: [{"alertname": "DecoderRedisAway"}]}, {RATIO: [{"release": "decoder"}]}],
    ids=["no worker", "a page", "missions fail"],
)
def test_what_is_bad_twice_in_a_row_is_taken_back(trouble: dict[str, list[dict[str, str]]]) -> None:
    assert result(WELL, WELL | trouble) == 1
    assert result(WELL, WELL | trouble, WELL) == 0


def test_another_release_ends_the_watch() -> None:
    assert result(WELL, WELL | {BUILD: []}) == 0


def test_a_prometheus_that_stays_away_is_no_success() -> None:
    def ask(_query: str) -> list[dict[str, str]]:
        raise ConnectionRefusedError

    assert watch(RELEASE, ask, seconds=3600, every=30, sleep=lambda _: None) == 1


def test_every_query_is_promql() -> None:
    asked: list[str] = []

    def ask(query: str) -> list[dict[str, str]]:
        asked.append(query)
        return [{"alertname": "X"}]

    look(RELEASE, ask)
    assert len(asked) == 4
    for query in asked:
        promql_parser.parse(query)
        assert 'environment="production", release="decoder"' in query


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    queries: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            queries.append(urllib.parse.parse_qs(body)["query"][0])
            answer = json.dumps(
                {"status": "success", "data": {"result": [{"metric": {"pod": "a"}, "value": [0, "1"]}]}}
            )
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it so)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}", queries
        listening.shutdown()


def test_prometheus_is_asked_by_its_api(server: tuple[str, list[str]]) -> None:
    url, queries = server
    assert prometheus(url + "/")('up{a="1"}') == [{"pod": "a"}]
    assert queries == ['up{a="1"}']


def test_what_is_not_handed_on_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["watch", "--seconds", "1", "--every", "1"])
    monkeypatch.delenv("PROMETHEUS", raising=False)
    assert main() == 2
    assert "PROMETHEUS" in capsys.readouterr().err
