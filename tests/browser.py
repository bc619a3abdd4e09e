"""Headless Chromium, over the DevTools protocol on two pipes: no library, no port."""

import fcntl
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
_TIMEOUT_S = 240

_PALE = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const behind = (element) => {
    let layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    let colour = [255, 255, 255];
    for (const [r, g, b, a] of layers.reverse())
      colour = [r, g, b].map((value, i) => value * a / 255 + colour[i] * (1 - a / 255));
    return colour;
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const poor = [];
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own) continue;
    const style = getComputedStyle(element);
    const ink = rgba(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [one, other] = [light(ink), light(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) poor.push(element.textContent.trim().slice(0, 40) + " " + ratio.toFixed(2));
  }
  return poor;
})()
"""
"""Texts whose contrast with their background is below 4.5 to 1 (WCAG 2.2, 1.4.3)."""

_OVERLAPS = """
[...document.querySelectorAll("svg.chart")].flatMap(chart => {
  const boxes = [...chart.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
  return boxes.flatMap(([one, a], i) => boxes.slice(i + 1)
    .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
    .map(([other]) => one + " | " + other));
})
"""
"""Texts of a chart that overlap another one."""


def find_browser() -> str | None:
    """The first of NAMES in PATH."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def _pipe() -> tuple[int, int]:
    """A pipe whose descriptors are 10 or higher, since the protocol uses 3 and 4."""
    low = os.pipe()
    reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
    for end in low:
        os.close(end)
    return reading, writing


class Browser:
    """One page, in a profile of its own, that reaches no network."""

    def __init__(self, program: str, profile: Path) -> None:
        ours_in, theirs_out = _pipe()
        theirs_in, ours_out = _pipe()
        command = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--proxy-server=127.0.0.1:9", f"--user-data-dir={profile}", "--remote-debugging-pipe",
        ]  # fmt: skip
        # The protocol is on descriptors 3 and 4, whatever the numbers of the pipes are here.
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out} {theirs_in}<&- {theirs_out}>&-'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "chromium", *command], pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self.reading, self.writing = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        os.set_blocking(ours_in, False)
        self.left = b""
        self.number = 0
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events on the way are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.writing.write(json.dumps(message).encode() + b"\0")
        self.writing.flush()
        while (answer := self._receive()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, page: Path, width: int, dark: bool = False) -> None:
        """Load a file at a width in CSS pixels, and forget all earlier events."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Page.navigate", url=page.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def pale_texts(self) -> list[str]:
        """Texts with too little contrast, each with its ratio; opens all <details>."""
        found: list[str] = self.evaluate(_PALE)
        return found

    def overlapping_texts(self) -> list[str]:
        """Pairs of texts in charts that overlap."""
        found: list[str] = self.evaluate(_OVERLAPS)
        return found

    def complaints(self) -> list[str]:
        """What the console has reported since the page was opened."""
        reported = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [json.dumps(event["params"]) for event in self.events if event["method"] in reported]

    def requests(self) -> list[str]:
        """Addresses that were fetched since the page was opened, without data URIs."""
        asked = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        addresses = [event["params"]["request"]["url"] for event in asked]
        return [address for address in addresses if not address.startswith("data:")]

    def close(self) -> None:
        """End the browser that was started here."""
        self.process.terminate()
        self.process.wait(_TIMEOUT_S)
        self.reading.close()
        self.writing.close()

    def _receive(self) -> dict[str, Any]:
        """The next message, up to its zero byte."""
        end = time.monotonic() + _TIMEOUT_S
        while b"\0" not in self.left:
            assert time.monotonic() < end, "the browser does not answer"
            assert self.process.poll() is None, "the browser has ended"
            part = self.reading.read()
            self.left += part or b""
            if not part:
                time.sleep(0.01)
        message, self.left = self.left.split(b"\0", 1)
        received: dict[str, Any] = json.loads(message)
        return received
