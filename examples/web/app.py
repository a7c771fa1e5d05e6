"""A web app that enqueues missions and shows their states, by id.

It shows `producer.MissionClient` behind a page, and the HTTP response for each refusal. A form's hidden key makes it harmless
to send the form twice. No page shows secrets unless the app also has the reader's login and identity. Then a mission's page
asks for a reason, and the audit records the read before the result is opened.

    export DECODER_REDIS_URL=redis://producer:password@127.0.0.1:6379/0 DECODER_URL_KEY=/etc/decoder/url.key
    python examples/web/app.py                   # http://127.0.0.1:8000
    python examples/web/app.py --reader FILE     # FILE sets DECODER_REDIS_URL and DECODER_IDENTITY_FILE, like reader.env of `decoder up`

It authenticates nobody, so it only listens on loopback; and the audit names the reader's login, not the person at the browser.
In production, put your own authentication before it, let it act for the authenticated user, and read in a separate app.
"""

from __future__ import annotations

import argparse
import logging
import math
import re
import shlex
import sys
import uuid
from pathlib import Path

from flask import Flask, abort, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from mission import ResultReader
from mission.errors import AuditError, DecoderError, ResultUnavailable, SettingsError, UnknownMission
from mission.settings import Settings
from producer import (
    IdempotencyConflict,
    InvalidMission,
    LedgerUnavailable,
    MissionClient,
    QueueFull,
    QuotaExceeded,
    StoredQuotaExceeded,
)

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
STATUS: dict[type[DecoderError], int] = {
    InvalidMission: 400,
    UnknownMission: 404,
    ResultUnavailable: 404,
    IdempotencyConflict: 409,
    QuotaExceeded: 429,
    StoredQuotaExceeded: 429,
    QueueFull: 503,
    LedgerUnavailable: 503,
    AuditError: 503,
}
# Internal errors are for the log, not for the page.
TEXTS: dict[type[DecoderError], str] = {
    LedgerUnavailable: "The decoder's store does not answer. Send the form again: no mission is accepted twice.",
    AuditError: "The read could not be recorded, so nothing was read.",
}

log = logging.getLogger("examples.web")


def create_app(client: MissionClient, reader: ResultReader | None, *, submitter: str = "web") -> Flask:
    """Create the app. Without a reader, it shows no secrets."""
    app = Flask(__name__)
    # Otherwise a stranger's page could reach it under its own host name (DNS rebinding).
    app.config |= {"MAX_CONTENT_LENGTH": 64 * 1024, "TRUSTED_HOSTS": ["127.0.0.1", "localhost"]}

    @app.before_request
    def refuse_other_sites() -> None:
        """A form on a stranger's page must not enqueue or read. Browsers say where a request comes from."""
        if request.method == "POST" and request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            abort(403)

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.get("/")
    def home() -> str:
        return render_template("home.html", stats=client.stats().as_dict(), key=uuid.uuid4())

    @app.post("/missions")
    def enqueue() -> Response:
        key = request.form.get("key") or None
        url = request.form["url"].strip()
        # Each form has its own key: sent twice, it makes one mission, and the key never stands for another URL.
        ticket = client.enqueue(url, submitter=submitter, idempotency_key=key, exclusive=key is not None)
        return redirect(url_for("show", mission_id=ticket.id), 303)

    @app.get("/missions/<uuid:mission_id>")
    def show(mission_id: uuid.UUID) -> str:
        status = client.status(str(mission_id))
        return render_template("mission.html", status=status, may_read=reader is not None)

    @app.post("/missions/<uuid:mission_id>")
    def read(mission_id: uuid.UUID) -> str:
        if reader is None:
            abort(403, "This app has no reader's login, so it cannot read results.")
        secrets = reader.reveal(str(mission_id), reason=request.form["reason"])
        return render_template("mission.html", status=client.status(str(mission_id)), secrets=secrets)

    @app.errorhandler(HTTPException)
    def refuse_request(error: HTTPException) -> Response:
        return page(error.code or 500, error.description or error.name)

    @app.errorhandler(DecoderError)
    def refuse(error: DecoderError) -> Response:
        code = STATUS.get(type(error), 500)
        if code >= 500:
            log.error("%s: %s", type(error).__name__, error)
        response = page(code, TEXTS.get(type(error), str(error)))
        if isinstance(error, QuotaExceeded):
            response.headers["Retry-After"] = str(math.ceil(error.retry_after))
        return response

    return app


def page(code: int, text: str) -> Response:
    """A page that says in one sentence what went wrong."""
    return make_response(render_template("error.html", code=code, text=text), code)


def settings_in(file: Path) -> Settings:
    """The settings from a file of `export NAME=value` lines; the environment supplies the others.

    Raises:
        SettingsError: the file cannot be read, or a setting is bad.
    """
    try:
        lines = re.findall(r"^(?:export )?DECODER_(\w+)=(.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        values = {name.lower(): "".join(shlex.split(value)) for name, value in lines}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file}: {error}") from None
    return Settings.from_env(**values)


def main() -> int:
    """Serve until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000, help="loopback port; 0 selects a free one (8000)")
    parser.add_argument("--reader", type=Path, metavar="FILE", help="file that sets the reader's login and identity")
    parser.add_argument("--submitter", default="web", help="name that quotas and keys apply to (web)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    try:
        client = MissionClient.from_env()
        client.batch()  # a missing URL key must fail at startup, not at the first request
        reader = ResultReader.from_settings(settings_in(arguments.reader)) if arguments.reader else None
        server = make_server(
            "127.0.0.1", arguments.port, create_app(client, reader, submitter=arguments.submitter), threaded=True
        )
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"http://127.0.0.1:{server.port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
