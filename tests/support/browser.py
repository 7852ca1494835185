"""Chromium, and a page of an origin of its own that an operator happens to visit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import pytest

PATIENCE_SECONDS = 120
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Without a content type a call needs no leave of the server (CORS), and Prefect takes its body for JSON all the same.
PAGE = """<!doctype html><title>A page</title><script>
const tries = TRIES;
async function attempt([method, url, body]) {
  const content = body === null ? undefined : JSON.stringify(body);
  const read = () => fetch(url, {method, body: content, headers: {"Content-Type": "application/json"}});
  const blind = () => fetch(url, {method, body: content && new Blob([content]), mode: "no-cors"});
  try {
    const answer = await read();
    return [answer.status, await answer.text()];
  } catch (refused) {
    try { await blind(); } catch (also) {}
    return [0, "nothing can be read"];
  }
}
(async () => {
  const told = [];
  for (const each of tries) told.push(await attempt(each));
  await fetch("/told", {method: "POST", body: JSON.stringify(told)});
})();
</script>"""


def tried_by_a_page(calls: Sequence[tuple[str, str, Any]]) -> list[tuple[int, str]]:
    """Let a page of another origin call these addresses from an operator's browser.

    Args:
        calls: Method, address and JSON body of each.

    Returns:
        Status and text of each answer as far as the page could read it; else 0.
    """
    told: SimpleQueue[bytes] = SimpleQueue()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(PAGE.replace("TRIES", json.dumps(calls)).encode())

        def do_POST(self) -> None:
            told.put(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(b"")

        def _answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            return [(status, text) for status, text in json.loads(_visited(server.server_port, told))]
        finally:
            server.shutdown()


def _visited(port: int, told: SimpleQueue[bytes]) -> bytes:
    if CHROMIUM is None:
        pytest.skip("needs the browser Chromium; Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        switches = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        browser = subprocess.Popen(
            [CHROMIUM, *switches, f"http://127.0.0.1:{port}/"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return told.get(timeout=PATIENCE_SECONDS)
        except Empty:
            raise AssertionError("the page has told nothing") from None
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
