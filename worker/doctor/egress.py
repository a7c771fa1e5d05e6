"""Check of the egress proxy: reachable, and accepts the login."""

from __future__ import annotations

from collections.abc import Iterator

from mission.errors import SettingsError
from mission.model import Reason
from worker.doctor.finding import Finding, Level, Verdict
from worker.fetch.proxy import Proxy, ProxyFailed
from worker.fetch.transport import tls_context
from worker.settings import WorkerSettings

_CHECK = "proxy"


def findings(settings: WorkerSettings, seat: str) -> Iterator[Finding]:
    """Yield the one finding. Only workers fetch, so other logins skip it."""
    if seat != "worker":
        yield Finding(_CHECK, Level.SKIP, "for a worker to set, not for this login")
    else:
        yield Finding(_CHECK, *_proxy(settings))


def _proxy(settings: WorkerSettings) -> Verdict:
    try:
        proxy = Proxy.from_settings(settings, tls_context(settings.ca_file))
        if proxy is None:
            return Level.OK, "none: workers connect to hosts directly"
        proxy.check(settings.connect_timeout)
    except SettingsError as error:
        return Level.FAIL, str(error)
    except ProxyFailed as failure:
        if failure.reason is Reason.PROXY_LOGIN_REFUSED:
            return (
                Level.FAIL,
                "the proxy refuses the login in DECODER_EGRESS_PROXY, or requires one: the worker supports only Basic",
            )
        return (
            Level.FAIL,
            "the proxy of DECODER_EGRESS_PROXY is unreachable, or does not answer as a proxy: no document can be fetched",
        )
    warnings = []
    if settings.proxy_resolves:
        warnings.append(
            "the proxy resolves names, so the worker does not check their addresses: the proxy must refuse private ones"
        )
    if proxy.place.login and not proxy.place.tls:
        warnings.append("the password goes to the proxy unencrypted: use https://")
    return (Level.WARN, "; ".join(warnings)) if warnings else (Level.OK, "the proxy answers")
