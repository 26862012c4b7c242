"""A real browser: Chromium without a window, driven by Playwright.

Chromium comes from the system (`chromium-headless-shell` or `chromium`); Playwright would bring one of its
own, which is not wanted. It knows one font, so that pictures of pages look the same everywhere.
"""

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

CHROMIUM_IS_ABSENT = "Chromium is not installed: apt-get install chromium-headless-shell"
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 60_000.0
"""How long the browser waits for what is looked for: the machine may be busy."""
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir><cachedir>{cache}</cachedir>
  <match target="pattern"><edit name="family" mode="assign"><string>Noto Sans CJK SC</string></edit></match>
</fontconfig>
"""


def chromium() -> str | None:
    """The path of a Chromium that is installed."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def page(home: Path, *, width: int = 1400, height: int = 900) -> Iterator[Page]:
    """A page of a browser of its own; nothing of it is left. `home`: a folder for its fonts."""
    fonts = importlib.util.find_spec("manimgx_fonts_cjk")
    assert fonts is not None
    assert fonts.origin is not None
    configuration = home / "fonts.conf"
    configuration.write_text(_FONTS.format(fonts=Path(fonts.origin).parent, cache=home / "font-cache"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(),
            # The tests run as root in a container, where Chromium's sandbox cannot be had.
            args=["--no-sandbox", "--disable-dev-shm-usage"],
            env={"FONTCONFIG_FILE": str(configuration), "HOME": str(home), "NO_PROXY": "127.0.0.1"},
        )
        try:
            found = browser.new_page(viewport={"width": width, "height": height}, locale="en-US")
            found.set_default_timeout(PATIENCE_MS)
            yield found
        finally:
            browser.close()
