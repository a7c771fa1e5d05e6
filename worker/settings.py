"""The worker's settings: the shared ones, and those that only a worker needs."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ByteSize, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from mission.settings import TEN_YEARS, CommaList, Duration, Place, Settings, Size, split_list
from worker.allowlist import AllowedHost
from worker.egress import ProxyUrl
from worker.extract.detectors import DETECTORS, Detectors, user_cache

LEASE_MARGIN_SECONDS = 15.0
# Additional fetch slots beside `concurrency`, only for missions of high priority: these need not wait for a free slot.
URGENT_FETCHES = 1


Places = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(split_list)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(split_list)]


class WorkerSettings(Settings):
    """All settings of a worker."""

    TRUSTED = Settings.TRUSTED | {"ca_file"}
    URLS = Settings.URLS | {"egress_proxy"}

    allowed_hosts: CommaList = Field((), description="hosts to fetch from: host, *.host or host:port, comma-separated")
    allowed_schemes: CommaList = Field(("https",), description="https, http or both, comma-separated")
    allowed_networks: Networks = Field(
        (), description="CIDRs let through the address guard, like 10.1.0.0/16, comma-separated"
    )
    credentials: Place = Field(None, description="TOML file of credentials for allowlist entries that require a login")
    connect_timeout: Duration = Field(3.0, gt=0, le=300, description="seconds for connecting, up to 300s")
    read_timeout: Duration = Field(10.0, gt=0, le=300, description="seconds between two reads, up to 300s")
    deadline: Duration = Field(
        30.0, gt=0, le=3600, description="seconds for the whole fetch of one attempt, up to 3600s"
    )
    max_bytes: Size = Field(
        ByteSize(10 * 1024 * 1024), gt=0, le=1024**3, description="maximum size of a document, like 10MiB, up to 1GiB"
    )
    memory: Annotated[Size | None, BeforeValidator(lambda value: value or None)] = Field(
        None, gt=0, description="memory limit of the process, like 1GiB; empty: its cgroup's limit, else 1GiB"
    )
    max_record: Size = Field(
        ByteSize(1024 * 1024), ge=1024, le=64 * 1024**2, description="maximum size of one result, 1KiB to 64MiB"
    )
    max_redirects: int = Field(3, ge=0, le=20, description="maximum number of redirects to follow, 0 to 20")
    fetch_attempts: int = Field(3, ge=1, le=10, description="tries within one attempt's deadline, 1 to 10")
    concurrency: int = Field(
        32, ge=1, le=1024, description="parallel fetches, 1 to 1024, plus one slot for urgent missions"
    )
    host_concurrency: int = Field(8, ge=1, le=1024, description="parallel fetches to one host, 1 to 1024")
    max_attempts: int = Field(5, ge=1, le=100, description="attempts before a mission becomes a dead letter, 1 to 100")
    lease_seconds: Duration = Field(
        60.0, gt=0, le=7200, description="lease on a claimed mission, at least the deadline + 15s"
    )
    ca_file: Place = Field(None, description="file of CA certificates to trust when fetching; empty: the system's")
    egress_proxy: Annotated[SecretStr | None, BeforeValidator(lambda value: value or None)] = Field(
        None, description="proxy to fetch through, http(s)://[user:password@]host:port; empty: none"
    )
    egress_resolve: Literal["worker", "proxy"] = Field(
        "worker", description="resolver of host names: worker, or proxy with DECODER_EGRESS_PROXY"
    )
    recipient: str | None = Field(None, description="public key to seal results to, inline or a file")
    recipients: Place = Field(None, description="folder with one public key file for each submitter, NAME.pub")
    result_ttl: Duration = Field(
        7 * 86400.0, gt=0, le=TEN_YEARS, description="retention of results, like 7d, up to 3650d"
    )
    markers: str = Field("{* *}", description="opening and closing marker, separated by a space")
    detectors: CommaList = Field(
        DETECTORS, description="detectors that look for secrets: marker, provider, generic, comma-separated"
    )
    rules: Places = Field(
        (), description="additional rule files: gitleaks TOML, betterleaks TOML, Kingfisher YAML; comma-separated"
    )
    rules_cache: Place = Field(None, description="folder for compiled rules; empty: the user's cache")
    accept_submit: bool = Field(True, description="true or false: accept URLs through the decoder.submit task")
    metrics_port: int = Field(9464, ge=0, le=65535, description="port for /metrics, 0 for any free port")
    metrics_host: str = Field("0.0.0.0", description="address to serve /metrics on")  # noqa: S104 (a pod is scraped from outside)  # nosec B104
    health_file: Place = Field(None, description="file that the worker touches while it is alive")
    shutdown_grace: Duration = Field(
        25.0, gt=0, le=3600, description="seconds from SIGTERM to the release of in-flight missions"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")
    log_format: Literal["json", "text"] = Field("json", description="json or text")

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            AllowedHost.parse(host)
        return hosts

    @field_validator("allowed_schemes")
    @classmethod
    def _check_schemes(cls, schemes: tuple[str, ...]) -> tuple[str, ...]:
        if not schemes or set(schemes) - {"http", "https"}:
            raise ValueError("not a scheme")
        return schemes

    @field_validator("egress_proxy")
    @classmethod
    def _check_proxy(cls, proxy: SecretStr | None) -> SecretStr | None:
        if proxy is not None:
            ProxyUrl.parse(proxy.get_secret_value())
        return proxy

    @field_validator("detectors")
    @classmethod
    def _check_detectors(cls, detectors: tuple[str, ...]) -> tuple[str, ...]:
        if set(detectors) - set(DETECTORS):
            raise ValueError("not a detector")
        return detectors

    @field_validator("markers")
    @classmethod
    def _check_markers(cls, value: str) -> str:
        opening, _, closing = value.partition(" ")
        if not opening or not closing or opening == closing or " " in closing:
            raise ValueError("not two markers")
        return value

    @property
    def looks_for(self) -> Detectors:
        """The detectors that look for secrets, with their options."""
        opening, _, closing = self.markers.partition(" ")
        return Detectors(self.detectors, (opening, closing), self.rules, self.rules_cache or user_cache())

    @property
    def proxy(self) -> ProxyUrl | None:
        """The proxy for all fetches, if there is one."""
        return ProxyUrl.parse(self.egress_proxy.get_secret_value()) if self.egress_proxy else None

    @property
    def proxy_resolves(self) -> bool:
        """Whether the proxy gets host names and resolves them; the worker then resolves none."""
        return self.egress_resolve == "proxy"

    @model_validator(mode="after")
    def _check_egress(self) -> Self:
        if self.proxy_resolves and self.egress_proxy is None:
            raise ValueError("DECODER_EGRESS_RESOLVE: got 'proxy'; takes a DECODER_EGRESS_PROXY that resolves names")
        return self

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        if self.lease_seconds < self.deadline + LEASE_MARGIN_SECONDS:
            raise ValueError(
                f"DECODER_LEASE_SECONDS: got {self.lease_seconds:g}s; takes at least "
                f"DECODER_DEADLINE + {LEASE_MARGIN_SECONDS:g}s = {self.deadline + LEASE_MARGIN_SECONDS:g}s"
            )
        return self
