"""A page in a real headless Chromium, driven over a pipe (the Chrome DevTools Protocol)."""

import base64
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
OPTIONS += ["--no-first-run", "--disable-extensions", "--remote-debugging-pipe"]
FAULTS = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")


class Browser:
    """One browser with one page, and what went wrong in it."""

    def __init__(self, profile: Path, *options: str) -> None:
        reads, self.out = os.pipe()
        inlet, writes = os.pipe()
        arguments = [str(CHROMIUM), *OPTIONS, *options, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{reads} 4>&{writes}', "bash", *arguments],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self.inlet = inlet
        self.numbers = itertools.count(1)
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []
        self.buffer = b""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        answer = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = answer["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            part = os.read(self.inlet, 1 << 20)
            assert part, "the browser has ended"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the answer to a command; what happens meanwhile is added to `events`."""
        message = {"id": next(self.numbers), "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != message["id"]:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path: Path, width: int = 1400, height: int = 1000, dark: bool = False) -> None:
        """Load a file and wait until it has run."""
        self.events.clear()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=path.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        how = {"returnByValue": True, "awaitPromise": True}
        answer = self.send("Runtime.evaluate", expression=script, **how)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """Return what elements of the page say."""
        found = f"[...document.querySelectorAll({selector!r})].map(e => e.textContent)"
        return json.loads(self.run(f"JSON.stringify({found})"))

    def press(self, key: str, text: str = "") -> None:
        """Press a key where the focus is."""
        code = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}.get(key, 0)
        shared = {"key": key, "windowsVirtualKeyCode": code, "text": text}
        self.send("Input.dispatchKeyEvent", type="keyDown", **shared)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def point(self, x: float, y: float) -> None:
        """Move the mouse."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        """Move the mouse, and press its button."""
        self.point(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            what = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            self.send("Input.dispatchMouseEvent", **what)

    def screenshot(self, whole: bool = True) -> bytes:
        """Return the page as a PNG."""
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    @property
    def faults(self) -> list[str]:
        """Errors and warnings in the console, and whatever the page asked the network for."""
        found = []
        for event in self.events:
            details = json.dumps(event.get("params", {}))[:300]
            url = event.get("params", {}).get("request", {}).get("url", "file:")
            if event["method"] in FAULTS:
                found.append(details)
            elif not url.startswith(("file:", "data:")):
                found.append(f"asked for {url}")
        return found

    def close(self) -> None:
        """End the browser."""
        self.session = None
        self.send("Browser.close")
        self.process.wait(20)
        os.close(self.inlet)
        os.close(self.out)
