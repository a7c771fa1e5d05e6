"""The chart's objects: all named, valid, restricted, and free of secrets."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from mission.version import VERSION
from tests.chart.crds import SCHEMAS
from tests.chart.rendering import (
    CHART,
    DIGEST,
    ENVIRONMENTS,
    PROXY,
    SHIPPED,
    Object,
    Values,
    containers,
    environment,
    everything,
    find,
    helm,
    load_yaml,
    pods,
    render,
)

KUBERNETES = ("1.29", "1.31", "1.33", "1.35", "1.37")
PROXIED = environment("prod", egressProxy=PROXY)
LASTING = {
    "staging": environment("staging"),
    "prod": environment("prod"),
    "everything": everything(),
    "proxied": PROXIED,
}
ALL = LASTING | {"trial": environment("trial")}


@pytest.fixture(params=ALL)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return render(ALL[request.param])


@pytest.fixture(params=LASTING)
def lasting(request: pytest.FixtureRequest) -> list[Object]:
    """Real environments; test_trial.py has the exceptions for a trial."""
    return render(LASTING[request.param])


@pytest.mark.parametrize("name", SHIPPED)
def test_lint_finds_nothing(name: str) -> None:
    report = helm().lint(CHART, environment(name), strict=True, namespace="missions", kube_version="v1.29.0")
    assert report["errors"] == []
    # An icon is for catalogues of charts.
    assert [m["error"] for m in report["messages"] if m["error"] != "icon is recommended"] == []


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_objects_are_valid(objects: list[Object], version: str) -> None:
    own = [item for item in objects if (item["apiVersion"], item["kind"]) not in SCHEMAS]
    assert own
    for item in own:
        kubernetes_validate.validate(item, version, strict=True)


def test_custom_resources_are_valid(lasting: list[Object]) -> None:
    custom = [item for item in lasting if (item["apiVersion"], item["kind"]) in SCHEMAS]
    assert custom
    for item in custom:
        jsonschema.Draft202012Validator(SCHEMAS[item["apiVersion"], item["kind"]]).validate(item)


def test_a_misspelt_field_of_a_custom_resource_is_seen() -> None:
    scaled = find(render(everything()), "ScaledObject", "decoder-worker")
    wrong = scaled | {"spec": scaled["spec"] | {"minReplicas": 1}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMAS["keda.sh/v1alpha1", "ScaledObject"])


def test_every_object_says_where_it_belongs(objects: list[Object]) -> None:
    for item in objects:
        labels = item["metadata"]["labels"]
        assert item["metadata"]["namespace"] == "missions"
        assert labels["app.kubernetes.io/instance"] == "decoder"
        assert labels["app.kubernetes.io/version"] == VERSION


def test_every_pod_meets_the_restricted_level(objects: list[Object]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    allowed_volumes = {"configMap", "emptyDir", "secret", "persistentVolumeClaim", "projected", "downwardAPI"}
    assert list(pods(objects))
    for _, spec in pods(objects):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 10000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "ephemeralContainers"} & set(spec)
        for volume in spec.get("volumes", ()):
            assert set(volume) - {"name"} <= allowed_volumes
        for container in containers(spec):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_workers_are_not_all_taken_away_at_once(objects: list[Object]) -> None:
    assert find(objects, "PodDisruptionBudget", "decoder-worker")


def test_nothing_of_it_may_use_the_clusters_interface(lasting: list[Object]) -> None:
    assert [item for item in lasting if item["apiVersion"].startswith("rbac.")] == []


def test_no_pod_has_a_token_of_the_cluster(lasting: list[Object]) -> None:
    assert find(lasting, "ServiceAccount", "decoder")["automountServiceAccountToken"] is False
    for _, spec in pods(lasting):
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False


def test_every_container_is_bounded(objects: list[Object]) -> None:
    for _, spec in pods(objects):
        for container in containers(spec):
            assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
            assert set(container["resources"]["requests"]) == {"cpu", "memory", "ephemeral-storage"}


def test_what_is_ours_runs_by_digest(lasting: list[Object]) -> None:
    ours = [item["image"] for name, spec in pods(lasting) for item in containers(spec) if name != "decoder-valkey"]
    assert ours
    assert all(image.endswith(f"@{DIGEST}") for image in ours)


def test_names_are_looked_up_once_and_briefly(objects: list[Object]) -> None:
    for _, spec in pods(objects):
        options = {option["name"]: option["value"] for option in spec["dnsConfig"]["options"]}
        assert options == {"ndots": "1", "timeout": "1", "attempts": "1"}


def test_no_object_is_a_secret_or_holds_one(objects: list[Object]) -> None:
    text = yaml.safe_dump(objects)
    assert not [item for item in objects if item["kind"] == "Secret"]
    assert "decoder-identity" not in text
    assert "decoder-url-key" not in text
    assert not re.search(r"rediss?://\S*:\S*@|sentinel://\S*@", text)


def test_configmaps_hold_settings_that_are_no_secrets() -> None:
    config = find(render(everything()), "ConfigMap", "decoder-config")["data"]
    assert config
    assert not [name for name in config if re.search("KEY|PASSWORD|TOKEN|REDIS_URL|IDENTITY", name)]


def env_of(container: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container.get("env", [])}


def keys_in_environment(container: dict[str, Any]) -> set[str]:
    return {value["secretKeyRef"]["key"] for value in env_of(container).values() if isinstance(value, dict)}


def secret_keys(spec: dict[str, Any]) -> set[str]:
    """The keys of the decoder's own Secret that a pod gets."""
    from_env = {key for container in containers(spec) for key in keys_in_environment(container)}
    mounted = [volume["secret"] for volume in spec.get("volumes", ()) if "secret" in volume]
    own = [secret for secret in mounted if secret["secretName"] == "decoder-secrets"]
    return from_env | {item["key"] for secret in own for item in secret["items"]}


def test_each_pod_gets_only_the_secrets_that_it_needs() -> None:
    assert {name: secret_keys(spec) for name, spec in pods(render(everything()))} == {
        "decoder-worker": {"deployer-redis-url", "worker-redis-url", "url-key"},
        "decoder-flower": {"flower-redis-url", "flower-basic-auth"},
        "decoder-audit-trim": {"auditor-redis-url"},
        "decoder-test": {"producer-redis-url", "url-key"},
        "decoder-valkey": {"users.acl"},
    }


def test_what_loads_the_functions_runs_before_the_worker_and_alone_has_the_deployers_login() -> None:
    for name in ENVIRONMENTS:
        spec = find(render(environment(name)), "Deployment", "decoder-worker")["spec"]["template"]["spec"]
        (migrate,), (worker,) = spec["initContainers"], spec["containers"]
        assert migrate["args"][0] == "migrate"
        assert (migrate["image"], migrate["securityContext"]) == (worker["image"], worker["securityContext"])
        assert keys_in_environment(migrate) == {"deployer-redis-url"}
        assert keys_in_environment(worker) == {"worker-redis-url"}
        assert {mount["name"] for mount in migrate["volumeMounts"]} <= {"tmp", "redis-tls"}


def test_the_daily_job_verifies_the_audit_before_it_cuts_anything() -> None:
    spec = find(render(environment("prod")), "CronJob", "decoder-audit-trim")["spec"]["jobTemplate"]["spec"][
        "template"
    ]["spec"]
    (verify,), (trim,) = spec["initContainers"], spec["containers"]
    assert (verify["name"], verify["args"]) == ("verify", ["audit", "verify"])
    for part in ("image", "securityContext", "resources", "volumeMounts"):
        assert verify[part] == trim[part]
    assert keys_in_environment(verify) == {"auditor-redis-url"}


def test_the_audits_alert_asks_for_the_job_that_the_chart_makes() -> None:
    job = find(render(environment("prod")), "CronJob", "decoder-audit-trim")["metadata"]["name"]
    rules = load_yaml(CHART / "files" / "rules.yaml")["groups"]
    (expression,) = (
        rule["expr"] for group in rules for rule in group["rules"] if rule.get("alert") == "DecoderAuditNotWhole"
    )
    (pattern,) = re.findall(r'job_name=~"([^"]+)"', expression)
    assert re.fullmatch(pattern, f"{job}-29401157")


def test_the_heartbeat_goes_to_the_address_in_the_secret_or_nowhere() -> None:
    for heartbeat in (False, True):
        values = environment("prod", monitoring={"alertmanager": {"heartbeat": heartbeat}})
        receivers = find(render(values), "AlertmanagerConfig", "decoder")["spec"]["receivers"]
        (receiver,) = (item for item in receivers if item["name"] == "heartbeat")
        address = {"name": "decoder-alerting", "key": "heartbeat-url"}
        sent = {"webhookConfigs": [{"urlSecret": address, "sendResolved": False}]} if heartbeat else {}
        assert receiver == {"name": "heartbeat"} | sent


def test_a_daily_job_cuts_the_audit_by_its_own_setting() -> None:
    job = find(render(environment("prod", audit={"ttl": "90d"})), "CronJob", "decoder-audit-trim")["spec"]
    (container,) = job["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert (job["schedule"], job["concurrencyPolicy"]) == ("17 3 * * *", "Forbid")
    assert container["args"] == ["audit", "trim"]
    assert env_of(container)["DECODER_AUDIT_TTL"] == "90d"


def test_without_a_schedule_nothing_has_the_auditors_login() -> None:
    objects = render(everything(audit={"trimSchedule": ""}))
    assert "CronJob" not in {item["kind"] for item in objects}
    assert "auditor-redis-url" not in yaml.safe_dump(objects)


def test_the_proxys_url_comes_from_the_secret_and_goes_to_the_worker_alone() -> None:
    specs = dict(pods(render(PROXIED)))
    (worker,) = specs["decoder-worker"]["containers"]
    assert env_of(worker)["DECODER_EGRESS_PROXY"] == {
        "secretKeyRef": {"name": "decoder-secrets", "key": "egress-proxy"}
    }
    assert [name for name, spec in specs.items() if "egress-proxy" in secret_keys(spec)] == ["decoder-worker"]
    (migrate,) = specs["decoder-worker"]["initContainers"]
    assert keys_in_environment(migrate) == {"deployer-redis-url"}


@pytest.mark.parametrize("values", [everything(), PROXIED], ids=["everything", "proxied"])
def test_the_external_secret_fetches_exactly_what_pods_take(values: Values) -> None:
    objects = render(values)
    wanted = set[str]().union(*(secret_keys(spec) for _, spec in pods(objects)))
    fetched = {item["secretKey"] for item in find(objects, "ExternalSecret", "decoder-secrets")["spec"]["data"]}
    assert fetched == wanted


@pytest.mark.parametrize("values", [{"existingSecret": "mine"}, {"remoteKey": "decoder/credentials"}])
def test_the_credentials_are_a_secret_that_the_worker_alone_gets_as_files(values: dict[str, str]) -> None:
    objects = render(environment("prod", credentials=values))
    name = values.get("existingSecret", "decoder-credentials")
    having = {
        (pod, volume["name"])
        for pod, spec in pods(objects)
        for volume in spec.get("volumes", ())
        if volume.get("secret", {}).get("secretName") == name
    }
    assert having == {("decoder-worker", "credentials")}
    (worker,) = find(objects, "Deployment", "decoder-worker")["spec"]["template"]["spec"]["containers"]
    (mount,) = [mount for mount in worker["volumeMounts"] if mount["name"] == "credentials"]
    assert mount["readOnly"] is True
    assert env_of(worker)["DECODER_CREDENTIALS"] == f"{mount['mountPath']}/credentials.toml"
    made = [item["spec"] for item in objects if item["kind"] == "ExternalSecret" and item["metadata"]["name"] == name]
    assert [spec["dataFrom"] for spec in made] == [
        [{"extract": {"key": key}}] for key in values.values() if key != name
    ]


def test_without_credentials_nothing_asks_for_any() -> None:
    assert "DECODER_CREDENTIALS" not in yaml.safe_dump(render(environment("prod")))


def test_no_identity_reaches_the_cluster() -> None:
    for _, spec in pods(render(everything())):
        assert all("DECODER_IDENTITY_FILE" not in env_of(container) for container in containers(spec))
    assert "identity" not in yaml.safe_dump(render(everything())).lower()


def test_secret_files_are_closed_to_others() -> None:
    """The worker refuses key files that others may read."""
    for _, spec in pods(render(everything())):
        modes = [volume["secret"]["defaultMode"] for volume in spec.get("volumes", ()) if "secret" in volume]
        assert all(mode & 0o007 == 0 for mode in modes)


def test_probes_ask_the_health_file_that_the_worker_writes() -> None:
    container = find(render(environment("prod")), "Deployment", "decoder-worker")["spec"]["template"]["spec"][
        "containers"
    ][0]
    file = env_of(container)["DECODER_HEALTH_FILE"]
    for probe, question in (("startupProbe", "--ready"), ("readinessProbe", "--ready"), ("livenessProbe", "--live")):
        assert container[probe]["exec"]["command"][:5] == ["python", "-m", "worker.observe.health", file, question]
    assert any(file.startswith(mount["mountPath"] + "/") for mount in container["volumeMounts"])


def test_where_keda_scales_the_deployment_names_no_number() -> None:
    assert "replicas" not in find(render(environment("prod")), "Deployment", "decoder-worker")["spec"]
    assert find(render(environment("staging")), "Deployment", "decoder-worker")["spec"]["replicas"] == 2


def test_a_changed_setting_replaces_the_pods_and_a_changed_public_key_does_not() -> None:
    def annotations(**extra: Any) -> dict[str, str]:
        worker = find(render(environment("prod", **extra)), "Deployment", "decoder-worker")
        found: dict[str, str] = worker["spec"]["template"]["metadata"]["annotations"]
        return found

    assert annotations() != annotations(config={"deadline": 20})
    assert annotations() == annotations(recipients={"submitters": {"app": "decoder-recipient:x:AAAA"}})


def test_a_new_version_does_not_restart_the_queue() -> None:
    template = find(render(environment("staging")), "StatefulSet", "decoder-valkey")["spec"]["template"]
    assert VERSION not in yaml.safe_dump(template["metadata"])
    assert DIGEST not in yaml.safe_dump(template)


def test_valkey_loses_nothing_that_it_acknowledged() -> None:
    conf = find(render(environment("staging")), "ConfigMap", "decoder-valkey")["data"]["valkey.conf"].splitlines()
    assert {
        "appendonly yes",
        "appendfsync always",
        "maxmemory-policy noeviction",
        "maxmemory 512mb",
        "hash-max-listpack-value 1024",
    } <= set(conf)
    assert "aclfile /etc/valkey/acl/users.acl" in conf


def test_the_rules_arrive_as_they_are_and_alerts_say_their_namespace() -> None:
    spec = find(render(environment("prod")), "PrometheusRule", "decoder")["spec"]
    for rule in [rule for group in spec["groups"] for rule in group["rules"] if "alert" in rule]:
        assert rule["labels"].pop("namespace") == "missions"
    assert spec == load_yaml(CHART / "files" / "rules.yaml")


def test_the_dashboards_arrive_as_they_are() -> None:
    dashboards = find(render(environment("prod")), "ConfigMap", "decoder-dashboard")["data"]
    assert dashboards
    assert dashboards == {file.name: file.read_text() for file in (CHART / "files").rglob("*.json")}


def test_the_scrape_has_the_labels_that_the_rules_go_by() -> None:
    spec = find(render(environment("prod")), "PodMonitor", "decoder-worker")["spec"]
    labels = {item["targetLabel"]: item["replacement"] for item in spec["podMetricsEndpoints"][0]["relabelings"]}
    assert labels == {"job": "decoder-worker", "environment": "production", "release": "decoder"}


def plain_matchers(matchers: list[dict[str, str]]) -> list[str]:
    return [f'{item["name"]}{item["matchType"]}"{item["value"]}"' for item in matchers]


def plain_route(route: dict[str, Any]) -> dict[str, Any]:
    plain = {re.sub("([A-Z])", r"_\1", name).lower(): value for name, value in route.items()}
    if "matchers" in plain:
        plain["matchers"] = plain_matchers(plain["matchers"])
    if "routes" in plain:
        plain["routes"] = [plain_route(below) for below in plain["routes"]]
    return plain


def test_the_routing_is_that_of_the_plain_file() -> None:
    spec = find(render(environment("prod")), "AlertmanagerConfig", "decoder")["spec"]
    plain = load_yaml(CHART / "files" / "alertmanager.yaml")
    assert plain_route(spec["route"]) == plain["route"]
    assert [
        {
            "source_matchers": plain_matchers(rule["sourceMatch"]),
            "target_matchers": plain_matchers(rule["targetMatch"]),
            "equal": rule["equal"],
        }
        for rule in spec["inhibitRules"]
    ] == plain["inhibit_rules"]
    assert [receiver["name"] for receiver in spec["receivers"]] == [item["name"] for item in plain["receivers"]]


def test_what_is_sent_is_that_of_the_plain_file_but_for_the_keys() -> None:
    spec = find(render(environment("prod")), "AlertmanagerConfig", "decoder")["spec"]
    made = {item["name"]: item for item in spec["receivers"]}
    plain = {item["name"]: item for item in load_yaml(CHART / "files" / "alertmanager.yaml")["receivers"]}
    (pager,), (slack,) = made["pagerduty"]["pagerdutyConfigs"], made["slack"]["slackConfigs"]
    (plain_pager,), (plain_slack,) = plain["pagerduty"]["pagerduty_configs"], plain["slack"]["slack_configs"]
    assert pager["routingKey"] == {"name": "decoder-alerting", "key": "pagerduty-routing-key"}
    assert slack["apiURL"] == {"name": "decoder-alerting", "key": "slack-webhook-url"}
    assert pager["description"] == plain_pager["description"]
    assert {item["key"]: item["value"] for item in pager["details"]} == plain_pager["details"]
    assert {name: slack[name] for name in ("channel", "title", "text")} == {
        name: plain_slack[name] for name in ("channel", "title", "text")
    }


def test_the_chart_is_of_the_version_of_the_code() -> None:
    chart = load_yaml(CHART / "Chart.yaml")
    assert chart["version"] == chart["appVersion"] == VERSION
