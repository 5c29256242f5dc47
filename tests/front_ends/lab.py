"""A person at JupyterLab: `lab.py CHROMIUM SCREENSHOT`, with Heddle installed as `heddle`."""

import contextlib
import json
import os
import pathlib

from browser import Page, start, stop, until

NOTEBOOK = {
    "cells": [{"cell_type": "code", "id": "a", "metadata": {}, "source": "", "outputs": [], "execution_count": None}],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}

# Every cell stays in the page, and nothing pops up over it.
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}


def start_lab():
    """A server of its own for the folder, and its address."""
    for name, content in SETTINGS.items():
        file = pathlib.Path(os.environ["JUPYTERLAB_SETTINGS_DIR"], "@jupyterlab", name + ".jupyterlab-settings")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    pathlib.Path("story.ipynb").write_text(json.dumps(NOTEBOOK))
    log = open("lab.log", "wb")
    options = "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", "--ServerApp.terminals_enabled=False"
    server = start("jupyter", "lab", *options, stdout=log, stderr=log)
    try:
        runtime = pathlib.Path(os.environ["JUPYTER_RUNTIME_DIR"])
        said = lambda: pathlib.Path("lab.log").read_text()
        [info] = until(lambda: list(runtime.glob("jpserver-*.json")), said)
        info = until(lambda: json.loads(info.read_text() or "null"), said)
        return server, "%slab/tree/story.ipynb?token=%s" % (info["url"], info["token"])
    except BaseException:
        stop(server)
        raise


class Lab:
    """The notebook in the page."""

    def __init__(self, page):
        self.page = page
        self.cells = 0

    def run(self, code):
        """Types into the last cell and runs it; a JavaScript expression of the cell."""
        last = "[...document.querySelectorAll('.jp-Notebook .jp-CodeCell')].at(-1)"
        self.page.click(last + "?.querySelector('.cm-content')")
        self.page.until("document.activeElement?.closest('.jp-CodeCell') === " + last)
        self.page.type(code)
        self.page.until("%s.querySelector('.cm-content').innerText.trim()" % last)
        self.cells += 1
        self.page.value("%s.dataset.story = %d" % (last, self.cells))
        self.page.press("Enter", modifiers=8)
        return "document.querySelector('[data-story=\"%d\"]')" % self.cells

    def until_shows(self, cell, text):
        self.page.until("%s.querySelector('.jp-OutputArea')?.innerText.includes(%s)" % (cell, json.dumps(text)))

    def until_picture(self, cell):
        self.page.until("%s.querySelector('.jp-RenderedImage img')?.naturalWidth > 0" % cell)

    def until_done(self, cell):
        self.page.until(r"/^\[\d+\]/.test(%s.querySelector('.jp-InputPrompt').innerText)" % cell)

    def offered(self, cell):
        """The text of the cell that stands below."""
        return self.page.value("%s.nextElementSibling.querySelector('.cm-content').innerText" % cell)

    def tool(self, name):
        """Clicks a button above the notebook."""
        self.page.click("document.querySelector('.jp-NotebookPanel-toolbar [data-jp-item-name=\"%s\"] *')" % name)

    def answer(self, cell, question, text):
        """Types into the box of a question, which has the focus."""
        self.until_shows(cell, question)
        self.page.until("document.activeElement === %s.querySelector('.jp-Stdin-input')" % cell)
        self.page.type(text)
        self.page.until("document.activeElement.value === %s" % json.dumps(text))
        self.page.press("Enter")

    def ask_while_the_model_is_slow(self):
        cell = self.run("%%ask\nHow did the sales go? Plot them by month, and tell me the best one.")
        # All of this is there before the model has begun its answer.
        for text in ("Plan", "compute and tell", "sales.idxmax()", "Apr 18"):
            self.until_shows(cell, text)
        self.until_picture(cell)
        assert not self.page.value("%s.innerText.includes('April was the best month')" % cell)
        pathlib.Path("go").touch()
        self.until_shows(cell, "April was the best month")
        self.until_done(cell)
        offered = until(lambda: self.offered(cell).strip(), "the code as the next cell")
        assert "sales.idxmax()" in offered, offered
        return cell


def story(page, screenshot):
    lab = Lab(page)
    # The file names no kernel, so the person is asked for one.
    page.until("document.querySelector('.jp-Dialog select')")
    choose = """(() => {
        const select = document.querySelector('.jp-Dialog select');
        const option = [...select.options].find(option => option.text.startsWith('Heddle'));
        if (!option) return false;
        select.value = option.value;
        select.dispatchEvent(new Event('change', {bubbles: true}));
        return true;
    })()"""
    page.until(choose, "Heddle among the kernels")
    page.click("document.querySelector('.jp-Dialog .jp-mod-accept')")
    page.until("document.querySelector('.jp-KernelName')?.innerText.includes('Heddle')")
    page.press("b", modifiers=2)

    first = lab.run(
        "import pandas as pd\n"
        "months = 'Jan Feb Mar Apr May Jun'.split()\n"
        "sales = pd.Series([12, 9, 15, 18, 14, 16], index=months)"
    )
    lab.until_done(first)
    asked = lab.ask_while_the_model_is_slow()
    page.value("%s.scrollIntoView({block: 'start'})" % asked)
    page.value("document.activeElement.blur()")
    page.screenshot(screenshot)

    plot = lab.run("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()")
    lab.until_picture(plot)

    slider = lab.run(
        "import ipywidgets\n"
        "ipywidgets.interact(lambda n: print('its square is', n * n), n=ipywidgets.IntSlider(value=3, max=9));"
    )
    lab.until_shows(slider, "its square is 9")
    page.value("%s.querySelector('.noUi-handle').focus()" % slider)
    page.press("ArrowRight")
    lab.until_shows(slider, "its square is 16")

    endless = lab.run("turns = 0\nprint('be' + 'gun')\nwhile True: turns += 1")
    lab.until_shows(endless, "begun")
    lab.tool("interrupt")
    lab.until_shows(endless, "KeyboardInterrupt")

    approved = lab.run("%%ask --approve always\nSet the target to 100.")
    lab.until_shows(approved, "target = 100")
    lab.answer(approved, "Allow it?", "y")
    lab.until_shows(approved, "The target is set.")
    target = lab.run("target")
    lab.until_shows(target, "100")

    lab.tool("restart")
    page.click("document.querySelector('.jp-Dialog .jp-mod-accept')")
    page.until("!document.querySelector('.jp-Dialog')")
    gone = lab.run("target")
    lab.until_shows(gone, "NameError")
    remembered = lab.run("%ask What did I set?")
    lab.until_shows(remembered, "You set the target to 100.")


def main(chromium, screenshot):
    server, url = start_lab()
    with contextlib.ExitStack() as stack:
        stack.callback(stop, server)
        page = stack.enter_context(contextlib.closing(Page(chromium, 1100, 860)))
        page.call("Page.navigate", url=url)
        try:
            story(page, screenshot)
        except BaseException:
            page.screenshot(screenshot.replace(".png", "-failed.png"))
            raise


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
