"""Pages as rendered by headless Chromium."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tests.observability.tools import program

WINDOW = (1600, 760)
# How far a page's virtual clock runs before it is captured, so that its scripts have loaded their data.
SETTLE_MILLISECONDS = 8000


def opened(url: str, *, login: str = "", picture: Path | None = None, size: tuple[int, int] = WINDOW) -> str:
    """A page's document after its scripts have run; empty if the browser was refused.

    Args:
        url: the page.
        login: `user:password`, for basic authentication.
        picture: save a screenshot here (PNG).
        size: of the window, width and height in pixels.
    """
    scheme, _, rest = url.partition("://")
    with tempfile.TemporaryDirectory(prefix="browser-") as folder:
        command = [
            program("chromium"),
            "--headless=new",
            "--no-sandbox",  # Chromium refuses a sandbox to root, and a container may not allow one
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            f"--window-size={size[0]},{size[1]}",
            f"--user-data-dir={folder}/profile",
            f"--virtual-time-budget={SETTLE_MILLISECONDS}",
            *([f"--screenshot={picture}"] if picture else []),
            "--dump-dom",
            f"{scheme}://{login}@{rest}" if login else url,
        ]
        env = {"PATH": os.environ["PATH"], "HOME": folder}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)
    return done.stdout
