"""What stands in for the cluster: `kubectl` and `helm` of a shell reach the drill's real workers and Valkey through it.

It knows the objects that the chart renders, so that a command naming another one fails; a `helm upgrade` renders the chart with Helm's
own engine, schema and all, and what changed is done to the stage. That the words and flags are the real programs', another test shows.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.chart.rendering import Object, Values, environment, find, merged, render
from tests.drill.jobs import CRON_JOB
from tests.drill.stage import MAX_MEMORY, Stage
from worker.local.stack import stack_environment

NAMESPACE = "decoder"
RELEASE = "decoder"
WORKER = "decoder-worker"
AUDITOR = "app.kubernetes.io/component=auditor"
CONFIG, RECIPIENTS = "decoder-config", "decoder-recipients"
EXEC_SECONDS = 60.0

_SHIM = """#!{python}
import json, socket, sys
with socket.socket(socket.AF_UNIX) as cluster:
    cluster.connect({address!r})
    cluster.sendall(json.dumps([{name!r}, *sys.argv[1:]]).encode() + b"\\n")
    code, text = json.loads(cluster.makefile().readline())
sys.stdout.write(text)
sys.exit(code)
"""


class NotFound(Exception):
    """Asked for something that is not there now."""


class Refused(Exception):
    """Asked in words that are not known here, or for something that the chart does not make."""


class Cluster:
    """The stand-in over a stage; a context manager.

    Attributes:
        path: a folder with the two programs, for a shell's PATH.

    Args:
        stage: what really runs.
        folder: where to put the programs.
    """

    def __init__(self, stage: Stage, folder: Path) -> None:
        self._stage = stage
        self._folder = folder
        self._values: Values = environment(
            "staging",
            keda={"enabled": True},
            monitoring={"alertmanager": {"enabled": True, "existingSecret": "decoder-alerting"}},
        )
        self._first_values = self._values
        self._revision = 1
        self.path = folder / "bin"
        self._server: socketserver.UnixStreamServer | None = None

    def __enter__(self) -> Self:
        # A socket's path may not be long.
        address = f"/tmp/cluster-{os.getpid()}-{id(self):x}"
        cluster = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                program, *words = json.loads(self.rfile.readline())
                self.wfile.write(json.dumps(cluster._answer(program, words)).encode() + b"\n")

        # In a single thread, which stays: a worker ends with the thread that started it.
        self._server = socketserver.UnixStreamServer(address, Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.path.mkdir()
        for name in ("kubectl", "helm"):
            shim = self.path / name
            shim.write_text(_SHIM.format(python=sys.executable, address=address, name=name))
            shim.chmod(0o700)
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            os.unlink(str(self._server.server_address))

    def restore(self) -> None:
        """Everything as it was at first: what is set, and how many workers there are."""
        self._become(self._first_values)

    def scale_back(self) -> None:
        """As many workers as there were at first."""
        self._scale(1)

    def _answer(self, program: str, words: Sequence[str]) -> tuple[int, str]:
        try:
            match words:
                case ["-n", namespace, *rest] if namespace == NAMESPACE:
                    result = self._kubectl(rest) if program == "kubectl" else self._helm(rest)
                case _:
                    raise Refused(f"names no namespace, or another one than {NAMESPACE}")
        except NotFound as problem:
            return 1, f"Error from server (NotFound): {problem}\n"
        except Refused as refusal:
            return 2, f"{program} {shlex.join(words)}: {refusal}\n"
        except Exception as error:  # noqa: BLE001 (the command is told, as by a cluster in trouble)
            return 1, f"{program} {shlex.join(words)}: {type(error).__name__}: {error}\n"
        return result if isinstance(result, tuple) else (0, result)

    def _kubectl(self, words: Sequence[str]) -> str | tuple[int, str]:
        match words:
            case ["get", "pods", *options]:
                return self._pods(options)
            case ["describe", "pods" | "pod", *which]:
                return "".join(f"Name: {pod}\nLast State: {state}\n" for pod, state in self._chosen(which))
            case ["logs", "-l", label, "-c", container, *_] if label == AUDITOR:
                self._object("CronJob", CRON_JOB)
                return self._stage.jobs.logs.get(container, "")
            case ["get", "jobs", "-l", label] if label == AUDITOR:
                self._object("CronJob", CRON_JOB)
                return "".join(
                    f"{job}   {'Failed' if failed else 'Complete'}\n" for job, failed in self._stage.jobs.failed.items()
                )
            case ["create", "job", job, source] if source == f"--from=cronjob/{CRON_JOB}":
                self._object("CronJob", CRON_JOB)
                self._stage.jobs.run(job)
                return f"job.batch/{job} created\n"
            case ["delete", "jobs", "-l", label, "--field-selector=status.successful=0"] if label == AUDITOR:
                return "".join(f'job.batch "{job}" deleted\n' for job in self._stage.jobs.delete_failed())
            case ["logs", *which]:
                self._chosen(which)
                return self._stage.workers.logs()
            case ["exec", "deploy/decoder-worker", "--", *command]:
                self._object("Deployment", WORKER)
                return self._exec(command)
            case ["get", "prometheusrule" | "alertmanagerconfig" as kind, name]:
                self._object(
                    {"prometheusrule": "PrometheusRule", "alertmanagerconfig": "AlertmanagerConfig"}[kind], name
                )
                return f"{name}   1h\n"
            case ["exec", "statefulset/decoder-valkey", "--", *command]:
                self._object("StatefulSet", "decoder-valkey")
                return self._exec([word.replace("/data", str(self._stage.server.data_dir)) for word in command])
            case ["rollout", "restart" | "status" as what, target, *options]:
                return self._rollout(what, target, options)
            case ["scale", "deploy/decoder-worker", count] if found := re.fullmatch(r"--replicas=(\d+)", count):
                self._object("Deployment", WORKER)
                self._scale(int(found[1]))
                return "deployment.apps/decoder-worker scaled\n"
            case ["delete", "pod", pod]:
                ((name, _),) = self._chosen([pod])
                self._restart(name.removeprefix(f"{WORKER}-"))
                return f"pod {pod!r} deleted\n"
            case ["delete", "secret", secret] if re.fullmatch(rf"sh\.helm\.release\.v1\.{RELEASE}\.v\d+", secret):
                return f"secret {secret!r} deleted\n"
            case ["annotate", "scaledobject/decoder-worker", annotation, *_] if annotation.startswith(
                "autoscaling.keda.sh/paused-replicas"
            ):
                self._object("ScaledObject", WORKER)
                return "scaledobject.keda.sh/decoder-worker annotated\n"
            case ["port-forward", target, port] if target.startswith("svc/"):
                service = self._object("Service", target.removeprefix("svc/"))
                if int(port) not in [item["port"] for item in service["spec"]["ports"]]:
                    raise Refused(f"{target} has no port {port}")
                return f"Forwarding from 127.0.0.1:{port}\n"
        raise Refused("not known to this stand-in")

    def _helm(self, words: Sequence[str]) -> str | tuple[int, str]:
        match words:
            case ["history", "decoder", *_]:
                return f"REVISION STATUS     DESCRIPTION\n{self._revision}        deployed   Upgrade complete\n"
            case ["status", "decoder", *_]:
                return "NAME: decoder\nSTATUS: deployed\n"
            case ["rollback", "decoder", *_]:
                self._become(self._first_values)
                return "Rollback was a success! Happy Helming!\n"
            case ["test", "decoder", *_]:
                return self._exec(self._object("Pod", "decoder-test")["spec"]["containers"][0])
            case ["upgrade", "decoder", "helm/decoder", "--reuse-values", *options]:
                self._become(merged(self._values, _given(options, self._folder)))
                self._revision += 1
                return 'Release "decoder" has been upgraded. Happy Helming!\n'
        raise Refused("not known to this stand-in")

    def _object(self, kind: str, name: str) -> Object:
        try:
            return find(render(self._values), kind, name)
        except ValueError:
            raise Refused(f"the chart makes no {kind} {name}") from None

    def _pods(self, options: Sequence[str]) -> str:
        rows = [("NAME", "READY", "STATUS", "RESTARTS", "AGE")] if "--no-headers" not in options else []
        which = [option for option in options if option != "--no-headers"]
        for pod, state in self._chosen(which or ["-l", "app.kubernetes.io/component=worker"]):
            up = state == "Running"
            rows.append((pod, "1/1" if up else "0/1", state, str(self._stage.workers.restarts(_name(pod))), "1h"))
        return "".join("   ".join(row) + "\n" for row in rows)

    def _chosen(self, which: Sequence[str]) -> list[tuple[str, str]]:
        """Pods by label or by name, and the state of each."""
        pods = {f"{WORKER}-{name}": up for name, up in self._stage.workers.states().items()}
        match which:
            case ["-l", label, *_]:
                labels = self._object("Deployment", WORKER)["spec"]["template"]["metadata"]["labels"]
                key, _, value = label.partition("=")
                if labels.get(key) != value:
                    raise Refused(f"no pod of the chart has the label {label}")
            case [pod, *_] if pod in pods:
                pods = {pod: pods[pod]}
            case _:
                raise NotFound(f"pods {which} not found")
        return [(pod, "Running" if up else "CrashLoopBackOff") for pod, up in pods.items()]

    def _exec(self, command: Sequence[str] | Object) -> tuple[int, str]:
        """Run a command as in a worker's container, or the container of `helm test`."""
        env = stack_environment(self._stage.workers.values)
        if isinstance(command, dict):
            env |= {"TEST_URL": f"{self._stage.site.url}/good", "TEST_SECRETS": "1", "TEST_SECONDS": "60"}
            command = [*command["command"], *command["args"]]
        env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            command,
            env=env,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=EXEC_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout

    def _rollout(self, what: str, target: str, _options: Sequence[str]) -> str:
        kind, _, name = target.partition("/")
        self._object({"deploy": "Deployment", "statefulset": "StatefulSet"}[kind], name)
        if what == "restart" and kind == "deploy":
            self._roll()
        elif what == "restart":
            self._stage.server.stop()
            self._stage.server.start()
        return f"{target} rolled out\n"

    def _roll(self) -> None:
        """Each worker anew, with one more meanwhile, as the Deployment's strategy has it."""
        workers = list(self._stage.workers.states())
        self._stage.workers.start("surge")
        for worker in workers:
            self._restart(worker)
        self._stage.workers.leave("surge")

    def _restart(self, worker: str) -> None:
        self._stage.workers.end(worker)
        self._stage.workers.start(worker)

    def _scale(self, count: int) -> None:
        workers = self._stage.workers
        for _ in range(count - len(workers.states())):
            workers.start(f"more{time.monotonic_ns()}")
        for worker in list(workers.states())[count:]:
            workers.leave(worker)

    def _become(self, values: Values) -> None:
        """Make the stage as the chart with these values has it, in what they change."""
        if values == self._values:
            return
        first = values == self._first_values
        before, after = (render(each) for each in (self._values, values))
        replicas, memory = (path(self._values) != path(values) for path in (_replicas, _memory))
        self._values = values
        if _data(before, CONFIG) != _data(after, CONFIG):
            # What the chart had at first is what the stage had at first.
            changed = _changed(_data(render(self._first_values), CONFIG), _data(after, CONFIG))
            self._stage.workers.set({name.removeprefix("DECODER_").lower(): value or "" for name, value in changed})
            self._roll()
        for name, text in _changed(_data(before, RECIPIENTS), _data(after, RECIPIENTS)):
            if text is None:
                (self._stage.recipients / name).unlink(missing_ok=True)
            elif name != "default":
                (self._stage.recipients / name).write_text(text)
        if memory:
            self._stage.redis.config_set("maxmemory", MAX_MEMORY if first else _memory(values))
        if replicas:
            self._scale(1 if first else _replicas(values))


def _replicas(values: Values) -> int:
    return int(values["worker"]["replicas"])


def _memory(values: Values) -> str:
    return str(values["valkey"].get("maxMemory", ""))


def _name(pod: str) -> str:
    return pod.removeprefix(f"{WORKER}-")


def _data(objects: list[Object], config_map: str) -> dict[str, str]:
    data: dict[str, str] = find(objects, "ConfigMap", config_map)["data"]
    return data


def _changed(before: dict[str, str], after: dict[str, str]) -> list[tuple[str, str | None]]:
    return [(name, after.get(name)) for name in before | after if before.get(name) != after.get(name)]


def _given(options: Sequence[str], folder: Path) -> Values:
    """The values of `--set` and `--set-file`."""
    values: Values = {}
    words = iter(options)
    for word in words:
        if word not in ("--set", "--set-file"):
            continue
        path, _, text = next(words).partition("=")
        value: Any = (folder / text).read_text() if word == "--set-file" else _parsed(text)
        for key in reversed(path.split(".")):
            value = {key: value}
        values = merged(values, value)
    return values


def _parsed(text: str) -> Any:
    if text.startswith("{"):
        return text.strip("{}").split(",")
    return int(text) if text.isdecimal() else text
