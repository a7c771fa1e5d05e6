"""A trial: the rights and objects that only a trial has."""

from __future__ import annotations

from typing import Any

import yaml

from tests.chart.rendering import DIGEST, OTHER_DIGEST, Object, containers, environment, find, pods, render
from tests.chart.test_objects import env_of, keys_in_environment, secret_keys
from worker.local.sample_site import SampleSite
from worker.local.trial import secret_data

HOOK = "decoder-trial-secret"


def trial(**extra: Any) -> list[Object]:
    return render(environment("trial", **extra))


def test_tags_will_do_and_a_digest_wins() -> None:
    def images(**extra: Any) -> set[str]:
        return {container["image"] for _, spec in pods(trial(**extra)) for container in containers(spec)}

    assert images() == {"docker.io/library/decoder:trial", "docker.io/valkey/valkey:9"}
    digests = {"image": {"digest": DIGEST}, "valkey": {"image": {"digest": OTHER_DIGEST}}}
    assert images(**digests) == {f"docker.io/library/decoder@{DIGEST}", f"docker.io/valkey/valkey@{OTHER_DIGEST}"}


def test_only_the_job_that_makes_the_secret_has_a_token_and_may_only_make_secrets() -> None:
    objects = trial()
    assert [name for name, spec in pods(objects) if spec["automountServiceAccountToken"]] == [HOOK]
    assert find(objects, "Job", HOOK)["spec"]["template"]["spec"]["serviceAccountName"] == HOOK
    granted = [item for item in objects if item["apiVersion"].startswith("rbac.")]
    assert [(item["kind"], item["metadata"]["name"]) for item in granted] == [("Role", HOOK), ("RoleBinding", HOOK)]
    assert granted[0]["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}]
    assert [subject["name"] for subject in granted[1]["subjects"]] == [HOOK]


def test_the_job_and_its_right_come_first_and_are_gone_when_it_is_done() -> None:
    for item in trial():
        notes = item["metadata"].get("annotations", {})
        if item["metadata"]["name"] == HOOK:
            assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
            assert notes["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
            assert notes["helm.sh/hook-weight"] == ("0" if item["kind"] == "Job" else "-1")
        else:
            assert notes.get("helm.sh/hook") in (None, "test")


def test_every_key_that_a_pod_takes_is_in_the_secret_that_the_job_makes() -> None:
    objects = trial()
    (container,) = containers(find(objects, "Job", HOOK)["spec"]["template"]["spec"])
    metadata, host = container["args"]
    assert host == f"{find(objects, 'Service', 'decoder-valkey')['metadata']['name']}.missions.svc.cluster.local"
    assert yaml.safe_load(metadata)["name"] == "decoder-secrets"
    assert yaml.safe_load(metadata)["namespace"] == "missions"
    taken = set[str]().union(*(secret_keys(spec) for _, spec in pods(objects)))
    assert taken <= set(secret_data(host))


def test_each_container_gets_only_the_secrets_that_it_needs_and_none_gets_the_identity() -> None:
    specs = dict(pods(trial()))
    producer, reader = containers(specs["decoder-trial"])
    assert secret_keys(specs["decoder-trial"]) == {"producer-redis-url", "reader-redis-url", "url-key"}
    assert keys_in_environment(producer) == {"producer-redis-url"}
    assert keys_in_environment(reader) == {"reader-redis-url"}
    assert "volumeMounts" not in reader
    assert secret_keys(specs["decoder-worker"]) == {"deployer-redis-url", "worker-redis-url", "url-key", "recipient"}
    assert secret_keys(specs[HOOK]) == set()


def test_workers_seal_to_the_key_that_the_job_makes() -> None:
    spec = dict(pods(trial()))["decoder-worker"]
    (worker,) = spec["containers"]
    (mount,) = (mount for mount in worker["volumeMounts"] if mount["name"] == "recipients")
    (volume,) = (volume for volume in spec["volumes"] if volume["name"] == "recipients")
    (item,) = volume["secret"]["items"]
    assert item["key"] == "recipient"
    assert env_of(worker)["DECODER_RECIPIENT"] == f"{mount['mountPath']}/{item['path']}"


def test_the_sample_site_is_beside_each_worker_and_alone_is_let_through() -> None:
    objects = trial()
    (site,) = (c for c in containers(dict(pods(objects))["decoder-worker"]) if c["name"] == "site")
    assert site["restartPolicy"] == "Always"  # it ends after the worker
    place = f"127.0.0.1:{site['command'][-1]}"
    config = find(objects, "ConfigMap", "decoder-config")["data"]
    assert config["DECODER_ALLOWED_HOSTS"] == place
    assert config["DECODER_ALLOWED_NETWORKS"] == "127.0.0.1/32"
    test = env_of(containers(dict(pods(objects))["decoder-test"])[0])
    with SampleSite() as own:
        known = {sample.url.removeprefix(own.url): sample.secrets for sample in own.samples()}
    assert str(known[test["TEST_URL"].removeprefix(f"http://{place}")]) == test["TEST_SECRETS"]


def test_where_the_network_policy_is_on_producer_and_reader_reach_valkey_and_nothing_else() -> None:
    addresses = {"enabled": True, "nodeCidrs": ["10.20.0.0/16"], "apiServerCidrs": ["10.20.0.0/16"]}
    objects = trial(networkPolicy=addresses)
    assert find(objects, "NetworkPolicy", "decoder-trial")["spec"]["ingress"] == []
    (rule,) = find(objects, "NetworkPolicy", "decoder-valkey")["spec"]["ingress"]
    assert "trial" in {peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in rule["from"]}
