"""A headless Chromium, driven over the DevTools protocol's pipe: no driver program, no port, no package."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe"),
)
_PATIENCE_S = 60.0


class Chrome:
    """One browser with one page.

    Attributes:
        console: What the page wrote to the console and what the browser complained of, since the last ``open``.
        requests: Addresses that the page asked for, since the last ``open``.
    """

    def __init__(self) -> None:
        assert PROGRAM is not None
        self.console: list[str] = []
        self.requests: list[str] = []
        self._profile = tempfile.mkdtemp(prefix="kv-lockstep-chrome-")
        (read_by_chrome, self._to), (self._from, written_by_chrome) = os.pipe(), os.pipe()
        # Chromium reads descriptor 3 and writes 4; out of their way first.
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (read_by_chrome, written_by_chrome)]

        def connect() -> None:
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        self._process = subprocess.Popen(
            [PROGRAM, *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            pass_fds=(3, 4),
            preexec_fn=connect,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (read_by_chrome, written_by_chrome, *theirs):
            os.close(fd)
        self._buffer = b""
        self._number = 0
        self._session = ""
        self._events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, page: Path, width: int, height: int, scheme: str = "light") -> None:
        """Open a file at a window size, in light or dark."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.console, self.requests, self._events = [], [], []
        self._call("Page.navigate", url=page.as_uri())
        begin = time.monotonic()
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            if time.monotonic() - begin > _PATIENCE_S:
                raise TimeoutError(f"{page} did not load")
            self._receive()
        self.run("0")
        for event in self._events:
            about = event.get("params", {})
            if event["method"] == "Runtime.consoleAPICalled":
                self.console.append(str(about.get("args")))
            elif event["method"] == "Runtime.exceptionThrown":
                self.console.append(str(about["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded":
                self.console.append(about["entry"]["text"])
            elif event["method"] == "Network.requestWillBeSent":
                self.requests.append(about["request"]["url"])

    def run(self, script: str) -> Any:
        """Evaluate JavaScript in the page."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def screenshot(self, path: Path, **clip: float) -> None:
        """Save what the window shows, or a part of the page (``x, y, width, height``)."""
        about: dict[str, Any] = {"clip": {**clip, "scale": 1}, "captureBeyondViewport": True} if clip else {}
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png", **about)["data"]))

    def press(self, key: str) -> None:
        """Press one key."""
        code = {"Tab": 9, "Enter": 13}[key]
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(OSError, TimeoutError, EOFError):
            self._session = ""
            self._call("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)

    def __enter__(self) -> Chrome:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer is not None and answer["id"] == message["id"]:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self) -> dict[str, Any] | None:
        """Return the next answer; an event is kept, and None returned."""
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], _PATIENCE_S)[0]:
                raise TimeoutError("Chromium does not answer")
            data = os.read(self._from, 1 << 20)
            if not data:
                raise EOFError("Chromium ended")
            self._buffer += data
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        if "id" in message:
            return message
        self._events.append(message)
        return None
