"""Headless Chromium over its DevTools protocol: one page, keys, pictures, and a record of every request it made."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium")
MISSING = "no Chromium here: apt-get install chromium"
# Where a browser has to be there, a test without one is not skipped: it fails.
SKIPPED = CHROMIUM is None and os.environ.get("HANSA_NEEDS_BROWSER") != "1"
# Chromium asks its makers for nothing, and needs no user namespaces of its own.
_FLAGS = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-sync", "--disable-component-update", "--disable-default-apps", "--hide-scrollbars"),
    "--remote-debugging-port=0",
)
_KEYS = {"Enter": ("\r", 13), "Tab": ("", 9), "ArrowLeft": ("", 37), "End": ("", 35), "Escape": ("", 27)}


class Page:
    """A tab. `requests` are the URLs that it asked for, `faults` what it complained of on its console."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._count = 0
        self.requests: list[str] = []
        self.faults: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer."""
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            if message.get("id") == self._count:
                assert "error" not in message, f"{method}: {message['error']}"
                found: dict[str, Any] = message["result"]
                return found
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Log.entryAdded":
                self.faults.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.faults.append(details.get("exception", {}).get("description", details["text"]))

    def open(self, url: str) -> None:
        """Go there; what follows may have to wait."""
        self.send("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str, patience: float = 20) -> Any:
        """Wait for an expression to be true."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            # An element has no value outside of its page.
            if found := self.run(f"((it) => it instanceof Node ? true : it)({script})"):
                return found
            time.sleep(0.02)
        raise AssertionError(f"not within {patience:g} s: {script}; {self.faults}")

    def type(self, text: str) -> None:
        """Text into what has the focus."""
        self.send("Input.insertText", text=text)

    def key(self, name: str, *, shift: bool = False) -> None:
        """Press one key."""
        text, code = _KEYS[name]
        about = {"key": name, "code": name, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def tab_to(self, element: str, most: int = 60) -> None:
        """Press Tab until the element of that id has the focus."""
        for _ in range(most):
            if self.run("document.activeElement.id") == element:
                return
            self.key("Tab")
        raise AssertionError(f"Tab does not reach {element}")

    def look(self, *, width: int, height: int = 1000, dark: bool = False) -> None:
        """How wide the window is, and what the person prefers."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A screenshot, of the whole page or of what the window shows."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def sign_in(self, token: str) -> None:
        """As a person does: into the field, and Enter."""
        self.until("document.activeElement?.id === 'gate-token'")
        self.type(token)
        self.key("Enter")


@contextmanager
def browse(folder: Path) -> Iterator[Page]:
    """A browser of its own with one empty page."""
    assert CHROMIUM is not None, MISSING
    flags = [*_FLAGS, f"--user-data-dir={folder}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    process = subprocess.Popen(
        [CHROMIUM, *flags, "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with connect(_address(folder, process), max_size=2**27, compression=None, proxy=None) as socket:
            yield Page(socket)
    finally:
        # It and all its children; nothing of its profile is kept.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """The page's DevTools address, once Chromium has written down its port."""
    import httpx

    deadline = time.monotonic() + 30
    told = folder / "DevToolsActivePort"
    while time.monotonic() < deadline and process.poll() is None:
        if told.exists() and (lines := told.read_text().splitlines()):
            targets = httpx.get(f"http://127.0.0.1:{lines[0]}/json", trust_env=False).json()
            for it in targets:
                if it["type"] == "page":
                    return str(it["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError(f"Chromium did not start (exit code {process.poll()})")
