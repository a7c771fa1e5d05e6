"""Each alert, computed by Prometheus' own engine: it fires on its cause, and is silent just below it and without traffic."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from mission.model import Claim, Cut, Reason
from tests.observability.expressions import queries
from tests.observability.tools import LOGS, OPERATIONS, RULES, RUNBOOK, load, program, rules, run
from worker.observe import logs, metrics
from worker.work.endings import Outcome, attempt_ended

pytestmark = pytest.mark.full

HEADINGS = re.compile(r"^### (\w+)$", re.MULTILINE)
LABELS = 'environment="test", release="decoder"'
ONE, TWO = (f'{LABELS}, instance="{name}", job="decoder-worker"' for name in ("one", "two"))
DAY = 1440
AUDIT_JOB, OTHER_JOB = "decoder-audit-trim-29401157", "somebody-else-29401157"
# This alert always fires: its absence shows that the monitoring is broken.
ALWAYS = frozenset({"DecoderHeartbeat"})

# The series of two idle workers. In promtool's notation: start+step x count, a sample each minute.
IDLE = {
    name: values
    for worker in (ONE, TWO)
    for name, values in {
        f"up{{{worker}}}": "1x{n}",
        f"decoder_redis_up{{{worker}}}": "1x{n}",
        f"process_start_time_seconds{{{worker}}}": "1000x{n}",
        f'decoder_queue_missions{{{worker}, state="queued"}}': "0x{n}",
        f"decoder_oldest_queued_seconds{{{worker}}}": "0x{n}",
        **{
            f'decoder_queued_wait_seconds{{{worker}, priority="{priority}"}}': "0x{n}"
            for priority in ("high", "normal", "low")
        },
        f"decoder_dead_letters{{{worker}}}": "0x{n}",
        f"decoder_redis_memory_used_bytes{{{worker}}}": "10x{n}",
        f"decoder_redis_memory_max_bytes{{{worker}}}": "100x{n}",
        f"decoder_redis_evicts{{{worker}}}": "0x{n}",
        f"decoder_redis_aof_written{{{worker}}}": "1x{n}",
        f"decoder_redis_replicas{{{worker}}}": "2x{n}",
        f"decoder_redis_replica_lag_seconds{{{worker}}}": "1x{n}",
        f"decoder_redis_certificate_expiry_timestamp_seconds{{{worker}}}": f"{90 * 86400}x{{n}}",
        f'decoder_queue_missions{{{worker}, state="retrying"}}': "0x{n}",
        f'decoder_key_first_used_timestamp_seconds{{{worker}, kind="url", key="00c0ffee"}}': "0x{n}",
        f"decoder_bad_recipients{{{worker}}}": "0x{n}",
        f"decoder_bad_credentials{{{worker}}}": "0x{n}",
        f'decoder_missions_total{{{worker}, outcome="succeeded", reason=""}}': "500x{n}",
        f'decoder_missions_total{{{worker}, outcome="failed", reason="http_server_error"}}': "50x{n}",
        f'decoder_missions_total{{{worker}, outcome="failed", reason="host_not_allowed"}}': "50x{n}",
        f'decoder_missions_total{{{worker}, outcome="failed", reason="credentials_refused"}}': "50x{n}",
        **{
            f'decoder_entry_missions_total{{{worker}, allowed_by="{name}", outcome="{outcome}"}}': "50x{n}"
            for name in ("", "docs.example.com", "*.example.org")
            for outcome in ("found", "empty", "refused", "failed", "dead")
        },
        f'decoder_fetch_attempts_total{{{worker}, result="ok"}}': "500x{n}",
        f'decoder_fetch_attempts_total{{{worker}, result="http_server_error"}}': "50x{n}",
        f'decoder_mission_duration_seconds_bucket{{{worker}, le="10"}}': "500x{n}",
        f'decoder_mission_duration_seconds_bucket{{{worker}, le="15"}}': "500x{n}",
        f'decoder_mission_duration_seconds_bucket{{{worker}, le="+Inf"}}': "500x{n}",
        f"decoder_mission_duration_seconds_count{{{worker}}}": "500x{n}",
        f'decoder_phase_duration_seconds_count{{{worker}, phase="validate"}}': "500x{n}",
        f'decoder_secrets_extracted_total{{{worker}, detector="marker"}}': "900x{n}",
        f'decoder_security_events_total{{{worker}, event="blocked_address"}}': "7x{n}",
        f'decoder_security_events_total{{{worker}, event="malformed_message"}}': "7x{n}",
        f'decoder_admission_refusals_total{{{worker}, reason="invalid_url"}}': "7x{n}",
        f'decoder_admission_refusals_total{{{worker}, reason="queue_full"}}': "7x{n}",
    }.items()
} | {
    f'kube_job_failed{{namespace="decoder", job_name="{job}", condition="true"}}': "0x{n}"
    for job in (AUDIT_JOB, OTHER_JOB)
}


def of(metric: str, values: str, *labels: str, worker: str = ONE) -> dict[str, str]:
    return {f"{metric}{{{', '.join([worker, *labels])}}}": values}


def both(metric: str, values: str, *labels: str) -> dict[str, str]:
    """The ledger's series, as reported by both workers."""
    return of(metric, values, *labels) | of(metric, values, *labels, worker=TWO)


def missions(succeeded: str, failed: str = "50x{n}", reason: str = "http_server_error") -> dict[str, str]:
    return of("decoder_missions_total", succeeded, 'outcome="succeeded"', 'reason=""') | of(
        "decoder_missions_total", failed, 'outcome="failed"', f'reason="{reason}"'
    )


def at_entry(name: str, **outcomes: str) -> dict[str, str]:
    """How missions at an entry of the allowlist ended."""
    return {
        key: values
        for outcome, values in outcomes.items()
        for key in of("decoder_entry_missions_total", values, f'allowed_by="{name}"', f'outcome="{outcome}"')
    }


DOCS, ORG = "docs.example.com", "*.example.org"
# Failed missions, half of them at each entry.
HALVES = at_entry(DOCS, found="0+47x{n}", failed="0+3x{n}") | at_entry(ORG, found="0+47x{n}", failed="0+3x{n}")


def durations(up_to_10: str, up_to_15: str) -> dict[str, str]:
    return (
        of("decoder_mission_duration_seconds_bucket", up_to_10, 'le="10"')
        | of("decoder_mission_duration_seconds_bucket", up_to_15, 'le="15"')
        | of("decoder_mission_duration_seconds_bucket", up_to_15, 'le="+Inf"')
        | of("decoder_mission_duration_seconds_count", up_to_15)
    )


def queued(values: str) -> dict[str, str]:
    return both("decoder_queue_missions", values, 'state="queued"')


def begun(values: str) -> dict[str, str]:
    return of("decoder_phase_duration_seconds_count", values, 'phase="validate"')


def tries(values: str) -> dict[str, str]:
    return of("decoder_fetch_attempts_total", values, 'result="http_server_error"')


def through_proxy(result: str, values: str) -> dict[str, str]:
    return of("decoder_fetch_attempts_total", values, f'result="{result}"')


def event(name: str, values: str) -> dict[str, str]:
    return of("decoder_security_events_total", values, f'event="{name}"')


def secrets(values: str) -> dict[str, str]:
    return of("decoder_secrets_extracted_total", values, 'detector="marker"')


@dataclass(frozen=True, slots=True)
class Case:
    """An alert, with series that fire it and series that just do not, both on top of idle workers, and the minute to evaluate.

    `too` are other alerts of the same cause.
    """

    alert: str
    fires: dict[str, str]
    below: dict[str, str]
    at: int = 60
    too: frozenset[str] = field(default_factory=frozenset)


SLOW_BURN = frozenset({"DecoderErrorBudgetBurnSlow"})
FAILING = frozenset({"DecoderMissionsFailing"})
CASES = [
    # 6 % and 5 % of errors
    Case("DecoderMissionsFailing", missions("0+94x{n}", "0+6x{n}"), missions("0+95x{n}", "0+5x{n}"), at=14),
    # 6 % at two entries of the allowlist, and at one
    Case(
        "DecoderSuccessRateLow",
        missions("0+94x{n}", "0+6x{n}") | HALVES,
        missions("0+94x{n}", "0+6x{n}") | at_entry(DOCS, found="0+94x{n}", failed="0+6x{n}"),
        at=14,
        too=FAILING,
    ),
    # at two entries, one of which has only two failures
    Case(
        "DecoderSuccessRateLow",
        missions("0+94x{n}", "0+6x{n}") | HALVES,
        missions("0+94x{n}", "0+6x{n}") | HALVES | at_entry(ORG, found="0+47x{n}", failed="50x10 52x{n}"),
        at=14,
        too=FAILING,
    ),
    # 18 failures at two entries are too few
    Case(
        "DecoderSuccessRateLow",
        missions("0+94x{n}", "0+6x{n}") | HALVES,
        missions("0+2x{n}", "0+1.8x{n}") | at_entry(DOCS, failed="0+0.9x{n}") | at_entry(ORG, failed="0+0.9x{n}"),
        at=14,
        too=FAILING,
    ),
    # at one entry 310 failures within ten minutes, and 290
    Case(
        "DecoderSuccessRateLow",
        missions("0+400x{n}", "0+31x{n}"),
        missions("0+400x{n}", "0+29x{n}"),
        at=14,
        too=FAILING,
    ),
    # 80 %, and 4 % after an hour of it: a blip that is over
    Case(
        "DecoderErrorBudgetBurnFast",
        missions("0+20x{n}", "0+80x{n}"),
        missions("0+20x60 1296+96x40", "0+80x60 4804+4x40"),
        at=99,
        too=SLOW_BURN | FAILING | {"DecoderSuccessRateLow"},
    ),
    # the slower pair: 35 % for six hours, and 28 %
    Case(
        "DecoderErrorBudgetBurnFast",
        missions("0+65x{n}", "0+35x{n}"),
        missions("0x{n}", "0x{n}"),
        at=6 * 60,
        too=SLOW_BURN | FAILING | {"DecoderSuccessRateLow"},
    ),
    # little traffic and a single entry: all fail for an hour, one a minute; and 80 within three minutes
    Case(
        "DecoderErrorBudgetBurnFast",
        missions("0x{n}", "0+1x{n}"),
        missions("0x{n}", "0x94 20 40 60 80x{n}"),
        at=99,
        too=SLOW_BURN,
    ),
    # the same 80, and at two entries
    Case(
        "DecoderErrorBudgetBurnFast",
        missions("0x{n}", "0x94 20 40 60 80x{n}")
        | at_entry(DOCS, failed="0x94 10 20 30 40x{n}")
        | at_entry(ORG, failed="0x94 10 20 30 40x{n}"),
        missions("0x{n}", "0x94 20 40 60 80x{n}") | at_entry(DOCS, failed="0x94 20 40 60 80x{n}"),
        at=99,
        too=FAILING | {"DecoderSuccessRateLow"},
    ),
    # 6 % for three days, but none in the last 15 minutes; 4.9 % for as long
    Case(
        "DecoderErrorBudgetBurnSlow",
        missions(f"0+94x{3 * DAY} 406280+100x40", f"0+6x{3 * DAY} 25920x40"),
        missions("0+951x{n}", "0+49x{n}"),
        at=3 * DAY + 15,
    ),
    # 5 a minute after an hour of 1 a minute; and 3, three times the usual
    Case("DecoderErrorSpike", tries("0+1x90 95+5x30"), tries("0+1x90 93+3x30"), at=97),
    # 20 tries in five minutes after none, and one fewer
    Case("DecoderErrorSpike", tries("0x90 5+5x30"), tries("0x90 4+4x30"), at=97),
    Case("DecoderLatencyHigh", durations("0+93x{n}", "0+100x{n}"), durations("0+95x{n}", "0+100x{n}")),
    Case("DecoderBlockedAddresses", event("blocked_address", "0x50 2+2x10"), event("blocked_address", "0x50 1+1x10")),
    Case("DecoderMalformedInput", event("malformed_message", "0x50 3+3x10"), event("malformed_message", "0x50 2+2x10")),
    # refused at admission, reported by both workers: counted once
    Case(
        "DecoderMalformedInput",
        both("decoder_admission_refusals_total", "0x50 3+3x10", 'reason="invalid_url"'),
        both("decoder_admission_refusals_total", "0x50 2+2x10", 'reason="invalid_url"'),
    ),
    # every mission of an entry, one a minute, had secrets until 14 minutes ago; until 7 minutes ago
    Case(
        "DecoderNoSecrets",
        at_entry(DOCS, found="0+1x300 300x90", empty="0x300 0+1x90"),
        at_entry(DOCS, found="0+1x307 307x90", empty="0x307 0+1x90"),
        at=314,
    ),
    # of ten a minute two remain, and five; another entry is unchanged
    Case(
        "DecoderNoSecrets",
        at_entry(DOCS, found="0+10x300 3000+2x90", empty="0x300 0+8x90") | at_entry(ORG, found="0+90x{n}"),
        at_entry(DOCS, found="0+10x300 3000+5x90", empty="0x300 0+5x90") | at_entry(ORG, found="0+90x{n}"),
        at=314,
    ),
    # no single entry has enough
    Case(
        "DecoderNoSecrets",
        at_entry(DOCS, found="0+0.6x300 180x90", empty="0x300 0+0.6x90")
        | at_entry(ORG, found="0+0.6x300 180x90", empty="0x300 0+0.6x90"),
        at_entry(DOCS, found="0+0.6x300 180x90", empty="0x300 0+0.6x90") | at_entry(ORG, found="0+0.6x{n}"),
        at=314,
    ),
    # twelve an hour, until an hour ago; there was none before either
    Case(
        "DecoderNoSecrets",
        at_entry(DOCS, found="0+0.2x300 60x90", empty="0x300 0+0.2x90"),
        at_entry(DOCS, empty="0+0.2x{n}"),
        at=375,
    ),
    # many missions of an entry that seldom has any, beside one that always has
    Case(
        "DecoderNoSecrets",
        at_entry(DOCS, found="0+1x300 300x90", empty="0x300 0+1x90"),
        at_entry(DOCS, found="0+1x{n}") | at_entry(ORG, found="0+0.1x300 30+9x90", empty="0+1x300 300+91x90"),
        at=314,
    ),
    Case(
        "DecoderQueueGrowing", queued("200+10x{n}") | begun("0+1x{n}"), queued("900-10x{n}") | begun("0+1x{n}"), at=35
    ),
    Case("DecoderQueueGrowing", queued("102+1x{n}") | begun("0+1x{n}"), queued("60+1x{n}") | begun("0+1x{n}"), at=40),
    Case(
        "DecoderOldestMissionTooOld",
        both("decoder_oldest_queued_seconds", "1801x{n}"),
        both("decoder_oldest_queued_seconds", "1800x{n}"),
    ),
    # it pages within two minutes of the half hour
    Case(
        "DecoderOldestMissionTooOld",
        both("decoder_oldest_queued_seconds", "0+60x{n}"),
        both("decoder_oldest_queued_seconds", "0+60x30 0x{n}"),
        at=32,
    ),
    # a low-priority backlog may wait, and does not hide other missions
    Case(
        "DecoderOldestMissionTooOld",
        both("decoder_oldest_queued_seconds", "9000x{n}")
        | both("decoder_queued_wait_seconds", "9000x{n}", 'priority="low"')
        | both("decoder_queued_wait_seconds", "1801x{n}", 'priority="normal"'),
        both("decoder_oldest_queued_seconds", "9000x{n}")
        | both("decoder_queued_wait_seconds", "9000x{n}", 'priority="low"')
        | both("decoder_queued_wait_seconds", "1800x{n}", 'priority="normal"'),
    ),
    Case("DecoderConsumerStalled", queued("5x{n}"), queued("5x{n}") | begun("500x55 501x5")),
    # for a moment there was nothing to do
    Case("DecoderConsumerStalled", queued("5x{n}"), queued("5x55 0x1 5x3")),
    Case(
        "DecoderQueueFull",
        both("decoder_admission_refusals_total", "0x55 3x5", 'reason="queue_full"'),
        both("decoder_admission_refusals_total", "3x60", 'reason="queue_full"'),
    ),
    Case("DecoderDeadLetters", both("decoder_dead_letters", "1x{n}"), both("decoder_dead_letters", "1x56 0x4")),
    Case("DecoderRedisAway", both("decoder_redis_up", "1x55 0x5"), of("decoder_redis_up", "1x50 0x10")),
    Case(
        "DecoderRedisNearlyFull",
        both("decoder_redis_memory_used_bytes", "86x{n}"),
        both("decoder_redis_memory_used_bytes", "85x{n}"),
    ),
    # without a limit it cannot be full
    Case(
        "DecoderRedisNearlyFull",
        both("decoder_redis_memory_used_bytes", "86x{n}"),
        both("decoder_redis_memory_used_bytes", "86x{n}") | both("decoder_redis_memory_max_bytes", "0x{n}"),
    ),
    Case("DecoderNoWorker", both("up", "0x{n}"), of("up", "0x{n}"), at=3),
    Case("DecoderNoWorker", both("up", "1x50 stale"), both("up", "1x58 stale")),
    Case("DecoderWorkerDown", of("up", "1x50 0x10"), of("up", "1x56 0x4")),
    Case(
        "DecoderWorkerRestarting",
        of("process_start_time_seconds", "1000x50 1001 1001 1002 1003x7"),
        of("process_start_time_seconds", "1000x50 1001 1001 1002 1002x7"),
    ),
    Case(
        "DecoderKeyOld",
        both("decoder_key_first_used_timestamp_seconds", f"-{365 * 86400}x{{n}}", 'kind="url"', 'key="00c0ffee"'),
        both("decoder_key_first_used_timestamp_seconds", f"-{364.9 * 86400}x{{n}}", 'kind="url"', 'key="00c0ffee"'),
        at=90,
    ),
    Case(
        "DecoderRetryingGrowing",
        both("decoder_queue_missions", "102+1x{n}", 'state="retrying"'),
        both("decoder_queue_missions", "300-1x{n}", 'state="retrying"'),
        at=40,
    ),
    Case(
        "DecoderRetryingGrowing",
        both("decoder_queue_missions", "0+10x{n}", 'state="retrying"'),
        both("decoder_queue_missions", "0+1x{n}", 'state="retrying"'),
        at=60,
    ),
    Case(
        "DecoderRedisUnbounded",
        both("decoder_redis_memory_max_bytes", "100x40 0x{n}"),
        both("decoder_redis_memory_max_bytes", "100x50 0x{n}"),
    ),
    Case(
        "DecoderRedisEvicts",
        both("decoder_redis_evicts", "0x56 1x{n}"),
        both("decoder_redis_evicts", "0x56 1 0x{n}"),
    ),
    Case(
        "DecoderRedisAofFailing",
        of("decoder_redis_aof_written", "1x56 0x{n}"),
        both("decoder_redis_aof_written", "1x56 0 1x{n}"),
    ),
    # one is further behind for two minutes; one is gone, and one never existed
    Case(
        "DecoderRedisReplicaBehind",
        both("decoder_redis_replica_lag_seconds", "1x50 11x{n}"),
        both("decoder_redis_replica_lag_seconds", "1x50 10x{n}"),
    ),
    Case(
        "DecoderRedisReplicaBehind",
        both("decoder_redis_replicas", "2x50 1x{n}"),
        both("decoder_redis_replicas", "0x50 1x{n}"),
    ),
    # without TLS there is none
    Case(
        "DecoderRedisCertificateExpires",
        both("decoder_redis_certificate_expiry_timestamp_seconds", f"{14 * 86400}x{{n}}"),
        both("decoder_redis_certificate_expiry_timestamp_seconds", f"{14.2 * 86400}x{{n}}"),
        at=90,
    ),
    Case(
        "DecoderAuditNotWhole",
        {f'kube_job_failed{{namespace="decoder", job_name="{AUDIT_JOB}", condition="true"}}': "0x50 1x{n}"},
        {f'kube_job_failed{{namespace="decoder", job_name="{OTHER_JOB}", condition="true"}}': "0x50 1x{n}"},
    ),
    # 10 and 4 within 10 minutes, among very many that succeed
    Case(
        "DecoderCredentialsRefused",
        missions("0+500x{n}", "0+1x{n}", "credentials_refused"),
        missions("0+500x{n}", "0+0.4x{n}", "credentials_refused"),
    ),
    Case("DecoderBadCredentials", of("decoder_bad_credentials", "1x{n}"), of("decoder_bad_credentials", "0x55 1x5")),
    # only the probe of a paused proxy; and one that succeeds
    Case(
        "DecoderProxyFailing",
        through_proxy("proxy_failed", "0x50 3+3x{n}"),
        through_proxy("proxy_failed", "0x50 3+3x{n}") | through_proxy("ok", "500x57 501x{n}"),
    ),
    Case(
        "DecoderProxyFailing",
        through_proxy("proxy_login_refused", "0x50 3+3x{n}"),
        through_proxy("proxy_login_refused", "0x56 1+1x{n}"),
    ),
    Case(
        "DecoderProxyFailing",
        through_proxy("proxy_failed", "0x50 3+3x{n}"),
        through_proxy("proxy_failed", "0x50 3+3x{n}") | through_proxy("proxy_refused", "0x57 1x{n}"),
    ),
    Case("DecoderBadRecipient", of("decoder_bad_recipients", "1x{n}"), of("decoder_bad_recipients", "0x55 1x5")),
]
ALERTS = [rule["alert"] for rule in rules("alert")]


def firing(folder: Path, series: Mapping[str, str], at: int, expected: set[str], among: str = ".*") -> str:
    """Check with promtool that exactly these of the alerts `among` fire at minute `at`; return its output, empty on success."""
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values.format(n=at + 10)} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'group by (alertname) (ALERTS{{alertstate="firing", alertname=~"{among}"}})',
                "eval_time": f"{at}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1}
                    for name in sorted({name for name in expected | ALWAYS if re.fullmatch(among, name)})
                ],
            }
        ],
    }
    suite = {
        "rule_files": [str(RULES)],
        # By default promtool evaluates groups in any order: an alert could then see records of the interval before.
        "group_eval_order": [group["name"] for group in load(RULES)["groups"]],
        "evaluation_interval": "10m" if at > DAY else "5m" if at > 400 else "1m",
        "tests": [test],
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(suite), encoding="utf-8")
    done = run("promtool", "test", "rules", path)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def named(case: Case) -> str:
    return f"{case.alert.removeprefix('Decoder')}-{CASES.index(case)}"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_the_alert_fires_on_its_cause_and_no_other_does(case: Case, tmp_path: Path) -> None:
    assert firing(tmp_path, IDLE | case.fires, case.at, {case.alert, *case.too}) == ""


@pytest.mark.parametrize("case", CASES, ids=named)
def test_the_alert_is_quiet_just_below(case: Case, tmp_path: Path) -> None:
    assert firing(tmp_path, IDLE | case.below, case.at, set(), among=case.alert) == ""


@pytest.mark.parametrize("minutes", [1, 30, 5 * DAY])
def test_nothing_fires_where_nothing_happens(minutes: int, tmp_path: Path) -> None:
    assert firing(tmp_path, IDLE, minutes, set()) == ""


def test_nothing_fires_in_the_first_minutes_of_a_worker_that_has_done_nothing_yet(tmp_path: Path) -> None:
    zero = {name: "0x{n}" if "_total" in name or "_count" in name else values for name, values in IDLE.items()}
    for minutes in (0, 5, 60):
        assert firing(tmp_path, zero, minutes, set()) == ""


def test_refusals_by_policy_do_not_count_against_the_objective(tmp_path: Path) -> None:
    refused = missions("0+1x{n}", "0+99x{n}", "host_not_allowed") | secrets("0+1x{n}")
    assert firing(tmp_path, IDLE | refused, 3 * DAY, set()) == ""


STALE = "0x51 40 80x{n}"


@pytest.mark.parametrize(
    "others",
    [
        {},
        missions("0+20x{n}", STALE) | at_entry(DOCS, found="0+20x{n}", failed=STALE),
        missions("0+2x{n}", STALE) | at_entry(DOCS, found="0+1x{n}", failed=STALE) | at_entry(ORG, found="0+1x{n}"),
    ],
    ids=["alone", "beside-others", "beside-another-entry"],
)
def test_stale_links_of_one_submitter_wake_nobody(others: dict[str, str], tmp_path: Path) -> None:
    stale = missions("0x{n}", STALE, "http_client_error") | at_entry(DOCS, failed=STALE)
    assert firing(tmp_path, IDLE | stale | others, 55, {"DecoderMissionsFailing"}) == ""


def test_a_success_rate_below_the_objective_is_told_whatever_it_is(tmp_path: Path) -> None:
    """Even if a worker of an older release does not count entries."""
    old = {name: values for name, values in IDLE.items() if "entry" not in name}
    assert firing(tmp_path, old | missions("0+94x{n}", "0+6x{n}"), 14, {"DecoderMissionsFailing"}) == ""


def test_what_keeps_its_promise_by_half_an_hour_pages_when_it_does_not() -> None:
    (rule,) = [rule for rule in rules("alert") if rule["alert"] == "DecoderOldestMissionTooOld"]
    says = r"no mission of high or normal priority waits for more than (\d+) minutes"
    (promise,) = re.findall(says, OPERATIONS.read_text(encoding="utf-8"))
    assert rule["labels"]["severity"] == "page"
    assert set(re.findall(r"> (\d+)", rule["expr"])) == {str(int(promise) * 60)}


def test_that_no_worker_ever_was_is_told(tmp_path: Path) -> None:
    assert firing(tmp_path, {}, 10, {"DecoderNoWorker"}) == ""


def test_what_the_ledger_said_last_stands_for_a_while_without_a_worker(tmp_path: Path) -> None:
    gone = {name: values.replace("x{n}", "x50 stale") for name, values in (IDLE | queued("5x{n}")).items()}
    assert firing(tmp_path, gone, 60, {"DecoderNoWorker", "DecoderConsumerStalled"}) == ""
    assert firing(tmp_path, gone, 80, {"DecoderNoWorker"}) == ""


def test_the_ledgers_numbers_are_not_added_up_over_workers(tmp_path: Path) -> None:
    # 60 from each of two workers are 60, not 120
    assert firing(tmp_path, IDLE | queued("10+1x{n}") | begun("0+1x{n}"), 60, set()) == ""


def test_every_alert_has_a_case() -> None:
    assert {case.alert for case in CASES} | ALWAYS == set(ALERTS)


@pytest.mark.parametrize("series", [{}, IDLE], ids=["nothing-scraped", "idle"])
def test_the_heartbeat_beats_whatever_is(series: dict[str, str], tmp_path: Path) -> None:
    """`firing` expects it in every other test as well."""
    assert firing(tmp_path, series, 60, {"DecoderHeartbeat"}, among="DecoderHeartbeat") == ""


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: str(rule["alert"]))
def test_every_alert_says_how_urgent_it_is_what_it_is_and_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"].keys() == {"severity", "area"}
    assert rule["labels"]["severity"] in ("page", "ticket", "heartbeat")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert len(rule["annotations"]["summary"]) < 100
    assert len(rule["annotations"]["description"].split()) > 15


def test_every_alert_leads_to_its_own_section_of_the_runbook() -> None:
    anchors = {heading.lower() for heading in HEADINGS.findall(RUNBOOK.read_text(encoding="utf-8"))}
    links = {rule["alert"]: rule["annotations"]["runbook_url"].partition("RUNBOOK.md#")[2] for rule in rules("alert")}
    assert links == {name: name.lower() for name in ALERTS}
    assert set(links.values()) <= anchors


def test_the_reasons_left_out_are_those_that_the_model_calls_refusals_by_policy() -> None:
    expected = {reason.value for reason in Reason if reason.policy_refusal}
    expressions = [*(rule["expr"] for rule in (*rules("alert"), *rules("record"))), *(text for _, text in queries())]
    found = [set(match.split("|")) - {"ok"} for text in expressions for match in re.findall(r'!~"([^"]*)"', text)]
    assert found
    assert all(reasons == expected for reasons in found)


def test_an_alert_that_asks_for_the_host_names_the_log_field_that_has_it() -> None:
    asking = [text for rule in rules("alert") if "the host (" in (text := rule["annotations"]["description"])]
    assert asking
    assert all("mission.allowed_by" in text for text in asking)


def logged_fields(caplog: pytest.LogCaptureFixture) -> set[str]:
    """The fields on an attempt's log line: one that succeeded, and one that will be retried."""
    claim = Claim("0f8fad5b-d9cb-469f-a165-70867728950e", 7, 2, "app", b"", 0, 9000, now_ms=5000)
    caplog.handler.setFormatter(logs.EcsFormatter())
    caplog.set_level(logging.INFO)
    with logs.mission_context(claim.id, claim.attempt, claim.submitter):
        logs.add_to_mission_context("mission.allowed_by", "*.example.com")
        attempt_ended(claim, time.monotonic(), Outcome(dict.fromkeys(metrics.PHASES, 0.1), cut=frozenset({Cut.TIME})))
        attempt_ended(claim, time.monotonic(), Outcome({}, Reason.READ_TIMEOUT))
    return {name for line in caplog.text.splitlines() for name in json.loads(line)}


def test_log_fields_that_the_rules_and_the_runbook_name_are_documented_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    documented = {
        name
        for words in re.findall(r"`(mission\.[\w.{},]+)`", LOGS.read_text(encoding="utf-8"))
        for name in (
            [words]
            if "{" not in words
            else [words.replace("{validate,fetch,extract,seal}", phase) for phase in metrics.PHASES]
        )
    }
    texts = [path.read_text(encoding="utf-8") for path in (RULES, RUNBOOK, OPERATIONS)]
    named = set(re.findall(r"\bmission\.[a-z_]+(?:\.\w+)?", "\n".join(texts)))
    logged = logged_fields(caplog)
    assert {"mission.submitter", "mission.reason", "mission.allowed_by"} <= named
    assert named <= documented
    assert documented <= logged


def test_promtool_finds_the_rules_in_order() -> None:
    program("promtool")
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr
