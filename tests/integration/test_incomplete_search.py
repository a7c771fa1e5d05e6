"""A document that is not searched to its end succeeds with what was found; its readers see what cut the search short."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result

from mission.operate.results import ResultReader
from mission.seal.key_files import write_key_file
from mission.settings import Settings
from producer import MissionClient
from producer.cli import main as mission
from tests.conftest import wait_for
from tests.integration.conftest import Keys, StartWorker
from tests.integration.test_main_job import log_lines, scraped
from tests.servers.misbehaving import MisbehavingServer
from worker.cli import main as decoder
from worker.local.stack import access

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def site() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


def url_of(site: MisbehavingServer, text: str = "{* KEY: value *}") -> str:
    return site.url(f"/half-zip?text={quote(text)}")


def test_everybody_is_told(
    mission_client: MissionClient,
    producer_settings: Settings,
    start_worker: StartWorker,
    site: MisbehavingServer,
    reader: ResultReader,
    keys: Keys,
    tmp_path: Path,
) -> None:
    worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}")
    ids = [mission_client.enqueue(url).id for url in (url_of(site), url_of(site, "nothing"), site.url("/ok"))]
    told = [mission_client.wait(each, timeout=60) for each in ids]
    assert [(each.secrets, each.complete, each.cut) for each in told] == [
        (1, False, ("damaged",)),
        (0, False, ("damaged",)),
        (1, True, ()),
    ]
    found = [reader.reveal(each, reason="a test") for each in ids]
    assert [(each.complete, sorted(each.cut)) for each in found] == [
        (False, ["damaged"]),
        (False, ["damaged"]),
        (True, []),
    ]
    assert [secret.path for secret in found[0]] == ["a/.env"]
    wait_for(lambda: 'decoder_incomplete_searches_total{cut="damaged"} 2.0' in scraped(worker))
    wait_for(lambda: worker.log.read_text().count('"mission-attempt"') == len(ids))
    attempts = [line for line in log_lines(worker.log) if line.get("event.action") == "mission-attempt"]
    cuts = dict(zip(ids, (["damaged"], ["damaged"], None), strict=True))
    assert {line["mission.id"]: line.get("mission.cut") for line in attempts} == cuts

    # And by the commands.
    write_key_file(identity := tmp_path / "reader.key", keys.identity.line)
    env = {"DECODER_REDIS_URL": producer_settings.redis_url.get_secret_value(), "DECODER_URL_KEY": keys.url_key}

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(mission, arguments, env=env | {"DECODER_IDENTITY_FILE": str(identity)})
        assert result.exit_code == 0, result.output
        return result

    assert "CUT" not in run("status", ids[2]).stdout
    assert run("status", *ids).stdout.splitlines()[1].split()[-1] == "damaged"
    shown = json.loads(run("status", ids[0], "--json").stdout)
    assert (shown["complete"], shown["cut"]) == (False, ["damaged"])
    shown = json.loads(run("reveal", ids[0], "--reason", "a test", "--json").stdout)
    assert (shown["complete"], shown["cut"]) == (False, ["damaged"])
    told_so = "only part of the document was searched (damaged): it may hold more secrets"
    assert [told_so in run("reveal", each, "--reason", "a test").stdout for each in ids] == [True, True, False]
    waited = run("enqueue", url_of(site), "--wait", "--timeout", "60s").stdout
    assert "(only partly searched: damaged)" in waited


def test_run_notes_it(site: MisbehavingServer) -> None:
    result = CliRunner().invoke(decoder, ["run", url_of(site)], env=access([url_of(site)]))
    assert f"not searched to the end (damaged): {url_of(site)}" in result.stderr, result.output
