"""A headless Chromium, driven over the DevTools protocol: what a person sees, clicks and types."""

import base64
import ctypes
import json
import pathlib
import signal
import subprocess
import tempfile
import time
import urllib.request

import websocket

PATIENCE = 60  # seconds; whatever takes longer has hung

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--remote-debugging-port=0"),
)
KEYS = {"Enter": 13, "ArrowRight": 39, "b": 66}


def start(*command, **options):
    """A process that ends with this one, however that ends."""
    library = ctypes.CDLL(None)
    die_with_parent = 1  # PR_SET_PDEATHSIG
    return subprocess.Popen(command, preexec_fn=lambda: library.prctl(die_with_parent, signal.SIGKILL), **options)


def stop(process):
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def until(condition, what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "not within %s s: %s" % (seconds, what() if callable(what) else what)
        time.sleep(0.05)


class Page:
    """The one page of a browser with nothing in it but this."""

    def __init__(self, chromium, width, height):
        self.folder = tempfile.TemporaryDirectory(prefix="heddle-chromium-", ignore_cleanup_errors=True)
        size = "--window-size=%d,%d" % (width, height)
        self.process = start(
            chromium, *FLAGS, size, "--user-data-dir=" + self.folder.name, "about:blank", stderr=subprocess.DEVNULL
        )
        try:
            ports = pathlib.Path(self.folder.name, "DevToolsActivePort")
            until(lambda: ports.exists() and ports.read_text().count("\n"), "the browser's port")
            port = ports.read_text().split()[0]
            self.socket = websocket.create_connection(
                self.find("http://127.0.0.1:%s/json/list" % port), timeout=PATIENCE, suppress_origin=True
            )
            self.number = 0
            self.call("Page.enable")
            metrics = dict(width=width, height=height, deviceScaleFactor=1, mobile=False)
            self.call("Emulation.setDeviceMetricsOverride", **metrics)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def find(url):
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        pages = lambda: [p for p in json.load(direct.open(url, timeout=PATIENCE)) if p["type"] == "page"]
        return until(pages, "a page")[0]["webSocketDebuggerUrl"]

    def close(self):
        stop(self.process)
        self.folder.cleanup()

    def call(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def value(self, expression):
        """The JSON of a JavaScript expression; None where it cannot be had yet."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return None if "exceptionDetails" in answer else answer["result"].get("value")

    def until(self, expression, what=None):
        """Waits until an expression is true, and gives it."""
        seen = lambda: "%s\n%s" % (what or expression, self.value("document.body.innerText"))
        return until(lambda: self.value(expression), seen)

    def click(self, element):
        """Clicks in the middle of what a JavaScript expression finds, once it is there and stays where it is."""
        where = "(() => { const e = %s; if (!e) return null; e.scrollIntoView({block: 'nearest'}); " % element
        where += "const r = e.getBoundingClientRect(); return r.width && [r.x + r.width / 2, r.y + r.height / 2] })()"
        x, y = self.until(where, element)
        for _ in range(100):
            time.sleep(0.05)
            now = self.value(where)
            if now == [x, y]:
                break
            x, y = now or (x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def press(self, *keys, modifiers=0):
        """Presses keys, one after the other. Modifiers are 2 for Control and 8 for Shift."""
        for key in keys:
            press = dict(key=key, code=key, windowsVirtualKeyCode=KEYS[key], modifiers=modifiers)
            if not modifiers and (len(key) == 1 or key == "Enter"):
                press["text"] = "\r" if key == "Enter" else key
            self.call("Input.dispatchKeyEvent", type="keyDown", **press)
            press.pop("text", None)
            self.call("Input.dispatchKeyEvent", type="keyUp", **press)

    def screenshot(self, file):
        shot = self.call("Page.captureScreenshot", format="png")
        pathlib.Path(file).write_bytes(base64.b64decode(shot["data"]))
