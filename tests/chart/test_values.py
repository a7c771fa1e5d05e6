"""The chart's values: schema, defaults, documentation and the worker's settings cannot drift apart."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.chart.rendering import (
    CHART,
    DIGEST,
    ENVIRONMENTS,
    SHIPPED,
    Values,
    default_values,
    environment,
    everything,
    find,
    helm,
    load_yaml,
    merged,
    render,
)
from worker.settings import WorkerSettings

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
# Settings that the chart itself sets: secrets, files, ports.
OWN = {
    "audit_ttl",
    "ca_file",
    "credentials",
    "egress_proxy",
    "health_file",
    "identity_file",
    "metrics_host",
    "metrics_port",
    "recipient",
    "recipients",
    "redis_ca_file",
    "redis_cert_file",
    "redis_key_file",
    "redis_url",
    "rules_cache",
    "url_key",
}
# Kubernetes waits longer than a machine that shuts down, so fetches may end.
OTHER_DEFAULTS = {"shutdown_grace"}


def schema_paths(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, below in schema.get("properties", {}).items():
        yield f"{path}{name}"
        if path + name not in ("worker.extraEnv",):
            yield from schema_paths(below, f"{path}{name}.")


def value_paths(values: Values, known: set[str], path: str = "") -> Iterator[str]:
    """Paths of the values, except below a free mapping, whose keys are the user's."""
    for name, value in values.items():
        yield f"{path}{name}"
        if isinstance(value, dict) and any(item.startswith(f"{path}{name}.") for item in known):
            yield from value_paths(value, known, f"{path}{name}.")


def snake(name: str) -> str:
    return re.sub("([A-Z])", r"_\1", name).lower()


def test_values_and_schema_name_the_same() -> None:
    known = set(schema_paths(SCHEMA))
    given = set(value_paths(default_values(), known))
    # Resources may be set that the defaults leave out.
    assert given == known


def test_the_schema_lets_nothing_through_that_it_does_not_name() -> None:
    def open_objects(schema: dict[str, Any], path: str) -> Iterator[str]:
        if "properties" in schema:
            if schema.get("additionalProperties") is not False:
                yield path
            for name, below in schema["properties"].items():
                yield from open_objects(below, f"{path}.{name}")

    assert list(open_objects(SCHEMA, "")) == []


def test_every_value_is_documented() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    given = [(above, line.strip()) for above, line in pairwise(lines) if re.match(r" *[\w-]+: \S", line)]
    silent = {line.partition(":")[0] for above, line in given if not above.strip().startswith("# -- ")}
    assert len(given) > 50
    assert silent == {"requests", "limits"}  # Kubernetes' own words


def test_every_setting_of_the_worker_is_a_value_or_the_charts_own() -> None:
    config = {snake(name) for name in default_values()["config"]}
    assert config | OWN == set(WorkerSettings.model_fields)
    assert config & OWN == set()


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Any:
    def configure(values: Values) -> WorkerSettings:
        for name, value in find(render(values), "ConfigMap", "decoder-config")["data"].items():
            monkeypatch.setenv(name, value)
        return WorkerSettings.from_env()

    return configure


@pytest.mark.parametrize("name", SHIPPED)
def test_the_worker_accepts_what_the_chart_gives_it(configured: Any, name: str) -> None:
    settings = configured(environment(name))
    assert settings.allowed_hosts == tuple(load_yaml(CHART / f"values-{name}.yaml")["config"]["allowedHosts"])


def test_the_defaults_are_the_workers() -> None:
    empty = WorkerSettings.model_construct()
    given = find(render(everything(config=default_values()["config"])), "ConfigMap", "decoder-config")["data"]
    for name in {snake(name) for name in default_values()["config"]} - OTHER_DEFAULTS:
        variable = f"DECODER_{name.upper()}"
        read = WorkerSettings.model_validate({name: given[variable]}) if variable in given else empty
        assert getattr(read, name) == getattr(empty, name), name


def test_whole_numbers_stay_whole() -> None:
    data = find(render(environment("prod", config={"queueLimit": 12_000_000})), "ConfigMap", "decoder-config")["data"]
    assert data["DECODER_QUEUE_LIMIT"] == "12000000"


WRONG_FOR_THE_SCHEMA: list[tuple[Values, str]] = [
    ({"image": {"digest": "latest"}}, "image/digest"),
    ({"image": {"tag": "sha256:1"}}, "image/tag"),
    ({"worker": {"replicas": "two"}}, "worker/replicas"),
    ({"worker": {"replicas": 0}}, "worker/replicas"),
    ({"worker": {"replcas": 2}}, "replcas"),
    ({"config": {"logLevel": "loud"}}, "config/logLevel"),
    ({"config": {"allowedHosts": "docs.example.com"}}, "config/allowedHosts"),
    ({"config": {"allowedHosts": ["https://docs.example.com/"]}}, "config/allowedHosts/0"),
    ({"config": {"allowedSchemes": ["ftp"]}}, "config/allowedSchemes/0"),
    ({"config": {"allowedNetworks": ["169.254.169.254/32"]}}, "config/allowedNetworks/0"),
    ({"config": {"allowedNetworks": ["0.0.0.0/0"]}}, "config/allowedNetworks/0"),
    ({"config": {"identityFile": "/x"}}, "identityFile"),
    ({"config": {"quota": "many"}}, "config/quota"),
    ({"recipients": {"default": "decoder-identity:mlkem768-x25519:AAAA"}}, "recipients/default"),
    ({"credentials": {"existingSecret": "No name"}}, "credentials/existingSecret"),
    ({"config": {"egressResolve": "both"}}, "config/egressResolve"),
    ({"egressProxy": {"port": 0}}, "egressProxy/port"),
    ({"egressProxy": {"url": "http://proxy:3128"}}, "url"),
    ({"keda": {"minReplicas": 0}}, "keda/minReplicas"),
    ({"networkPolicy": {"webPorts": []}}, "networkPolicy/webPorts"),
    ({"valkey": {"maxMemory": "lots"}}, "valkey/maxMemory"),
]

WRONG_TOGETHER: list[tuple[Values, str]] = [
    ({"image": {"digest": ""}}, "image.digest is required: the sha256"),
    ({"image": {"tag": "1.2.3"}}, "image.tag: only for a trial"),
    ({"image": {"digest": "", "tag": "1.2.3"}}, "image.tag: only for a trial"),
    ({"valkey": {"enabled": True, "image": {"tag": "9"}}}, "valkey.image.tag: only for a trial"),
    ({"trial": {"enabled": True}}, "trial: generates its own logins and keys"),
    (
        {"trial": {"enabled": True}, "secrets": {"external": {"enabled": False}}, "recipients": {"default": ""}},
        "trial: requires valkey.enabled",
    ),
    ({"secrets": {"external": {"enabled": False}}}, "secrets: name an existingSecret or enable external"),
    ({"secrets": {"existingSecret": "mine"}}, "secrets: existingSecret and external exclude each other"),
    ({"secrets": {"external": {"remoteKey": ""}}}, "secrets.external: requires store.name and remoteKey"),
    (
        {"credentials": {"existingSecret": "mine", "remoteKey": "decoder/credentials"}},
        "credentials: existingSecret and remoteKey exclude each other",
    ),
    (
        {
            "credentials": {"remoteKey": "decoder/credentials"},
            "secrets": {"existingSecret": "mine", "external": {"enabled": False, "store": {"name": ""}}},
        },
        "credentials.remoteKey: requires secrets.external.store.name",
    ),
    (
        {"trial": {"enabled": True}, "egressProxy": {"enabled": True}},
        "trial: the sample site is on the worker's loopback",
    ),
    ({"config": {"egressResolve": "proxy"}}, "config.egressResolve: proxy requires egressProxy.enabled"),
    ({"egressProxy": {"enabled": True}}, "egressProxy.cidrs: set the address ranges of your proxy"),
    ({"recipients": {"default": ""}}, "recipients: set a public key"),
    ({"worker": {"terminationGracePeriodSeconds": 44}}, "must be at least config.shutdownGrace + 10 = 45"),
    ({"config": {"leaseSeconds": 44}}, "config.leaseSeconds: got 44; must be at least config.deadline + 15 = 45"),
    ({"redis": {"cidrs": []}}, "redis.cidrs: set the address ranges of your Redis"),
    ({"valkey": {"enabled": True}}, "valkey.image.digest: set the sha256"),
    ({"keda": {"minReplicas": 30}}, "keda.minReplicas: got 30, more than keda.maxReplicas = 20"),
    ({"monitoring": {"alertmanager": {"existingSecret": ""}}}, "monitoring.alertmanager: requires an existingSecret"),
    (
        {"worker": {"extraEnv": [{"name": "DECODER_IDENTITY_FILE", "value": "/x"}]}},
        "keys and identities do not belong here",
    ),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG_FOR_THE_SCHEMA + WRONG_TOGETHER)
def test_a_wrong_value_is_refused_with_a_sentence(wrong: Values, sentence: str) -> None:
    with pytest.raises(helm().HelmError) as refused:
        render(environment("prod", **wrong))
    assert sentence in str(refused.value)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_what_only_the_operator_knows_has_no_example_that_could_be_left_in(name: str) -> None:
    with pytest.raises(helm().HelmError, match="recipients: set a public key"):
        render(merged(load_yaml(CHART / f"values-{name}.yaml"), {"image": {"digest": DIGEST}}))
    shipped = load_yaml(CHART / f"values-{name}.yaml")
    assert (shipped["networkPolicy"]["nodeCidrs"], shipped["networkPolicy"]["apiServerCidrs"]) == ([], [])
    assert shipped.get("valkey", {}).get("image", {}).get("digest", "") == ""


def test_a_grace_period_lets_every_fetch_end() -> None:
    config, worker = default_values()["config"], default_values()["worker"]
    assert config["shutdownGrace"] > config["deadline"]
    assert worker["terminationGracePeriodSeconds"] >= config["shutdownGrace"] + 10
