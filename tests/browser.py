"""A real browser without a window: what a page becomes when its programs run, and that nothing in it fails.

Used where a Chromium is installed; tests that need one are skipped elsewhere.
"""

import html
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

# a browser that shows nothing may never draw a frame again, so what waits for one gets a timer
LATER = """
requestAnimationFrame = function (act) { return setTimeout(act, 0); };
function later(act) { addEventListener("load", function () { setTimeout(act, 500); }); }
"""
# before any program of the page: what fails goes to the console, a promise that is broken and a picture too
WATCH = """
addEventListener("error", function (event) {
  if (event.target !== window) { console.log("does not load: " + event.target.outerHTML.slice(0, 200)); } }, true);
addEventListener("unhandledrejection", function (event) { console.log("rejected: " + event.reason); });
"""


def browse(page, tmp_path, address="", script=""):
    """Open the page in a browser with a script added; return attributes and first text by id, and the HTML.

    ``later(act)`` of the script acts when the page has been laid out and drawn once. Whatever the console says (an
    exception, a file that does not load) fails: our pages say nothing there.
    """
    source = page.read_text(encoding="utf-8").replace("<head>", f"<head><script data-watch>{WATCH}</script>", 1)
    copy = page.with_name("browsed.html")
    copy.write_text(source.replace("</body>", f"<script>{LATER}{script}</script></body>"), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    command += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'user'}"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", f"file://{copy}{address}"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    copy.unlink()
    assert "</html>" in done.stdout, done.stderr[-2000:]
    assert not (said := re.findall(r"CONSOLE.*", done.stderr)), said
    found = re.findall(r'id="([a-z-]+)"([^>]*)>([^<]*)', done.stdout)
    return {name: html.unescape(attributes + " " + text) for name, attributes, text in found}, done.stdout


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.hrefs, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.hrefs += [values["href"]] if values.get("href") else []
        self.ids += [values["id"]] if values.get("id") else []


def broken_links(page, source=None):
    """Return the links of a page to parts and files that are not there, and ids that are used twice.

    ``source`` is the HTML as a browser left it, else the page as it was written.
    """
    links = _Links()
    links.feed(source or page.read_text(encoding="utf-8"))
    bad = [f"id {name} is used twice" for name in sorted({name for name in links.ids if links.ids.count(name) > 1})]
    for href in dict.fromkeys(links.hrefs):
        parts = urlsplit(href)
        if parts.scheme in ("http", "https", "mailto") or href.startswith("#viewer="):
            continue
        if parts.path and not (Path(page).parent / unquote(parts.path)).exists():
            bad.append(f"no file {href}")
        elif parts.fragment and not parts.path and unquote(parts.fragment) not in links.ids:
            bad.append(f"no part {href}")
    return bad
