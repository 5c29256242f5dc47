"""The demo's tasks and the example notebooks run, quietly and to the end."""

import html.parser
import json
import shutil
import unittest

from kernel import ROOT, Kernel

DEMO = ROOT / "config" / "demo"


class Demo(unittest.TestCase):
    def test_the_three_tasks(self):
        with Kernel() as kernel:
            shutil.copy(DEMO / "sales.csv", kernel.cwd)
            cells = {path.stem: kernel.run(path.read_text("utf-8")) for path in DEMO.glob("*.py")}
            for name, cell in cells.items():
                self.assertIsNone(cell.error, name)
                self.assertEqual([c for c in cell.of("stream") if c["name"] == "stderr"], [], name)
            self.assertIn("East", cells["task1_statistics"].of("execute_result")[0]["data"]["text/html"])
            self.assertEqual(len(cells["task2_plot"].images), 1)
            self.assertTrue((kernel.cwd / "revenue.png").read_bytes().startswith(b"\x89PNG"))
            page = Page((kernel.cwd / "report.html").read_text("utf-8"))
        self.assertEqual(page.open, [])
        self.assertEqual(page.addresses, [], "the page loads nothing from elsewhere")


class Page(html.parser.HTMLParser):
    """Which elements of a page stay open, and what it refers to."""

    VOID = {"meta", "link", "img", "br", "hr"}

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()


class Notebooks(unittest.TestCase):
    def test_every_cell_passes_without_a_warning(self):
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            cells = json.loads(path.read_text("utf-8"))["cells"]
            with Kernel() as kernel:
                for cell in cells:
                    self.assertEqual(cell.get("outputs", []), [], "outputs are not stored")
                    if cell["cell_type"] == "code":
                        with self.subTest(path.name, cell=cell["id"]):
                            ran = kernel.run("".join(cell["source"]))
                            self.assertIsNone(ran.error)
                            errors = [c for c in ran.of("stream") if c["name"] == "stderr"]
                            self.assertEqual(errors, [])


if __name__ == "__main__":
    unittest.main()
