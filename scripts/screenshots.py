"""The pictures of the README: Flow while orders flow, and one order, taken from a running system.

    orderflow up --detach
    python -m scripts.screenshots http://127.0.0.1:8000

Orders are made to flow by `orderflow demo`, on the home that ORDERFLOW_HOME names. Needs Chromium (CHROMIUM names one
that is not on the path). Writes docs/images/*.webp.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
NAMES = ("chromium", "chromium-browser", "google-chrome")
DEMO = (sys.executable, "-m", "orderflow", "demo", "--rate", "60", "--orders")
FLOWING_S = 45
QUALITY = 82


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.screenshots", description="Take the README's pictures.")
    parser.add_argument("url", help="where the page is, such as http://127.0.0.1:8000")
    url: str = parser.parse_args(arguments).url
    program = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    if program is None:
        sys.stderr.write("No Chromium was found. Install it, or name it in CHROMIUM.\n")
        return 1
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, device_scale_factor=1.5)
        page.goto(url)
        with subprocess.Popen([*DEMO, str(60 * FLOWING_S + 600)], stdout=subprocess.DEVNULL):  # noqa: S603  # ours
            page.wait_for_timeout(1000 * FLOWING_S)
            keep(page, "flow", height=835)
        page.goto(f"{url}/orders?status=COMPLETED")
        page.locator("td a.id").first.click()
        page.get_by_text("the logs have it as").wait_for()
        keep(page, "order", height=790)
        browser.close()
    return 0


def keep(page: Page, name: str, *, height: int) -> None:
    """The upper part of the page, as WebP, which the browser itself can make."""
    session = page.context.new_cdp_session(page)
    clip = {"x": 0, "y": 0, "width": 1280, "height": height, "scale": 1}
    shot = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY, "clip": clip})
    (IMAGES / f"{name}.webp").write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
