"""Strict schemas of the chart's custom resources: the parts that it uses, modelled on the operators' CRDs.

KEDA 2.x (keda.sh/v1alpha1), Prometheus operator 0.80 and newer, External Secrets 0.16 and newer. Stricter than the CRDs:
an unlisted field is an error, so that a misspelt one is found here and not dropped by the API server.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

# The modules of npm's `@kubernetes-models` with the operators' own types.
PACKAGES = {
    "external-secrets.io": "external-secrets",
    "keda.sh": "keda",
    "monitoring.coreos.com": "prometheus-operator",
}

STRING: Schema = {"type": "string", "minLength": 1}
BOOLEAN: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
STRINGS: Schema = {"type": "object", "additionalProperties": STRING}
DURATION: Schema = {
    "type": "string",
    "pattern": r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
}


def a_list(items: Schema) -> Schema:
    """A list of at least one."""
    return {"type": "array", "items": items, "minItems": 1}


def record(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def resource(api_version: str, kind: str, spec: Schema) -> Schema:
    """A namespaced custom resource."""
    metadata = record({"name": STRING, "namespace": STRING, "labels": STRINGS}, {"annotations": STRINGS})
    return record({"apiVersion": {"const": api_version}, "kind": {"const": kind}, "metadata": metadata, "spec": spec})


SELECTOR = record({"matchLabels": STRINGS})
SECRET_KEY = record({"name": STRING, "key": STRING})
MATCHERS = a_list(
    record({"name": STRING}, {"value": {"type": "string"}, "matchType": {"enum": ["=", "!=", "=~", "!~"]}})
)

RULE = record(
    {"expr": {"type": ["string", "integer"]}},
    {"alert": STRING, "record": STRING, "for": DURATION, "keep_firing_for": DURATION, "labels": STRINGS}
    | {"annotations": STRINGS},
)
GROUP = record({"name": STRING, "rules": a_list(RULE)}, {"interval": DURATION, "labels": STRINGS, "limit": COUNT})

ROUTE = record(
    {"receiver": STRING},
    {"groupBy": a_list(STRING), "groupWait": DURATION, "groupInterval": DURATION, "repeatInterval": DURATION}
    | {"matchers": MATCHERS, "continue": BOOLEAN, "routes": {"type": "array"}},
)
PAGERDUTY = record(
    {"routingKey": SECRET_KEY},
    {"sendResolved": BOOLEAN, "severity": STRING, "description": STRING, "class": STRING, "component": STRING}
    | {"group": STRING, "client": STRING, "clientURL": STRING}
    | {"details": a_list(record({"key": STRING, "value": STRING}))},
)
SLACK = record(
    {"apiURL": SECRET_KEY},
    {"channel": STRING, "sendResolved": BOOLEAN, "title": STRING, "text": STRING, "color": STRING, "titleLink": STRING},
)
WEBHOOK = record({"urlSecret": SECRET_KEY}, {"sendResolved": BOOLEAN})
RECEIVER = record(
    {"name": STRING},
    {"pagerdutyConfigs": a_list(PAGERDUTY), "slackConfigs": a_list(SLACK), "webhookConfigs": a_list(WEBHOOK)},
)
INHIBITION = record({}, {"sourceMatch": MATCHERS, "targetMatch": MATCHERS, "equal": a_list(STRING)})

SCALE_POLICY = record({"type": {"enum": ["Percent", "Pods"]}, "value": COUNT, "periodSeconds": COUNT})
SCALING = record({}, {"stabilizationWindowSeconds": COUNT, "policies": a_list(SCALE_POLICY)})

SCHEMAS: dict[tuple[str, str], Schema] = {
    (schema["properties"]["apiVersion"]["const"], schema["properties"]["kind"]["const"]): schema
    for schema in (
        resource(
            "keda.sh/v1alpha1",
            "ScaledObject",
            record(
                {
                    "scaleTargetRef": record({"name": STRING}),
                    # The values of a trigger's metadata are strings, also numbers and booleans.
                    "triggers": a_list(
                        record(
                            {"type": STRING, "metadata": STRINGS},
                            {"metricType": {"enum": ["AverageValue", "Value", "Utilization"]}},
                        )
                    ),
                },
                {
                    "minReplicaCount": {"type": "integer", "minimum": 1},  # at 0 nobody reports the backlog
                    "maxReplicaCount": COUNT,
                    "pollingInterval": COUNT,
                    "fallback": record({"failureThreshold": COUNT, "replicas": COUNT}),
                    "advanced": record(
                        {"horizontalPodAutoscalerConfig": record({"behavior": record({}, {"scaleDown": SCALING})})}
                    ),
                },
            ),
        ),
        resource(
            "monitoring.coreos.com/v1",
            "PodMonitor",
            record(
                {
                    "selector": SELECTOR,
                    "podMetricsEndpoints": a_list(
                        record(
                            {"port": STRING, "path": STRING, "interval": DURATION},
                            {"relabelings": a_list(record({"targetLabel": STRING, "replacement": STRING}))},
                        )
                    ),
                }
            ),
        ),
        resource("monitoring.coreos.com/v1", "PrometheusRule", record({"groups": a_list(GROUP)})),
        resource(
            "monitoring.coreos.com/v1alpha1",
            "AlertmanagerConfig",
            record({"route": ROUTE, "receivers": a_list(RECEIVER)}, {"inhibitRules": a_list(INHIBITION)}),
        ),
        resource(
            "external-secrets.io/v1",
            "ExternalSecret",
            record(
                {
                    "refreshInterval": STRING,
                    "secretStoreRef": record({"name": STRING, "kind": {"enum": ["SecretStore", "ClusterSecretStore"]}}),
                    "target": record({"name": STRING, "creationPolicy": {"const": "Owner"}}),
                },
                {
                    "data": a_list(
                        record({"secretKey": STRING, "remoteRef": record({"key": STRING, "property": STRING})})
                    ),
                    "dataFrom": a_list(record({"extract": record({"key": STRING})})),
                },
            ),
        ),
    )
}
