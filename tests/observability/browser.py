"""Pages as a person sees them, in headless Chromium."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tests.observability.tools import program

WINDOW = (1600, 760)
# A page's own clock runs ahead by this much before it is looked at: its scripts have asked for what they show.
SETTLE_MILLISECONDS = 8000


def opened(url: str, *, login: str = "", picture: Path | None = None, size: tuple[int, int] = WINDOW) -> str:
    """The document that a page is once its scripts have run; empty where the browser was refused it.

    Args:
        url: the page.
        login: `user:password`, for basic authentication.
        picture: keep what it looks like here (PNG).
        size: of the window, width and height in pixels.
    """
    scheme, _, rest = url.partition("://")
    with tempfile.TemporaryDirectory(prefix="browser-") as folder:
        command = [
            program("chromium"),
            "--headless=new",
            "--no-sandbox",  # Chromium refuses root with one, and a container may allow none
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
