"""Figures in a cell: shown once, in place, with every glyph."""

import importlib.util
import os
import pathlib
import shutil
import tempfile
import unittest

from kernel import Kernel, bootstrap, sources

TITLES = ("你好世界 銷售趨勢", "売上の推移 ひらがな カタカナ", "매출 추이", "龍 ㄅㄆㄇ 、。「」 ％￥")

PLOT = """
import warnings, matplotlib.pyplot as plt
warnings.simplefilter("always")
plt.plot([-1, 2], [3, -4]); plt.title(%r, weight=%r)
"""


class Fonts(unittest.TestCase):
    def plot(self, code, runtime=True, **env):
        base = {k: v for k, v in os.environ.items() if k not in ("MPLBACKEND", "LC_ALL", "LC_CTYPE")}
        with Kernel(runtime=runtime, env={**base, "LANG": "C.UTF-8", **env}) as kernel:
            cell = kernel.run(code)
        self.assertIsNone(cell.error)
        self.assertEqual(len(cell.images), 1, cell.messages)
        return cell

    def test_every_script_has_its_glyphs(self):
        for title in TITLES:
            for weight in ("normal", "bold"):
                with self.subTest(title, weight=weight):
                    self.assertEqual(self.plot(PLOT % (title, weight)).text, "")

    def test_without_the_runtime_glyphs_are_missing(self):
        self.assertIn("missing from font", self.plot(PLOT % (TITLES[0], "normal"), runtime=False).text)

    def test_a_family_or_style_that_the_cell_sets_keeps_the_glyphs(self):
        for line in (
            "plt.rcParams['font.sans-serif'] = ['SimHei']; plt.rcParams['axes.unicode_minus'] = False",
            "plt.rcParams['font.family'] = 'Microsoft YaHei'",
            "plt.rcParams['font.family'] = 'serif'",
            "plt.rcParams['font.family'] = 'DejaVu Sans Mono'",
            "plt.rcdefaults(); plt.switch_backend('module://matplotlib_inline.backend_inline')",
            "plt.style.use('ggplot')",
        ):
            with self.subTest(line):
                code = "import matplotlib.pyplot as plt\n" + line + PLOT % (TITLES[0], "bold")
                self.assertEqual(self.plot(code).text, "")

    def test_a_text_with_a_formula_has_the_glyphs(self):
        for fonts in ("dejavusans", "stix", "cm", "custom"):
            with self.subTest(fonts):
                code = "plt.rcParams['mathtext.fontset'] = %r; plt.savefig('a.pdf')" % fonts
                code = PLOT % (r"斜率 $\frac{速度}{x^2}$ 매출 ひらがな", "normal") + code
                self.assertEqual(self.plot(code).text, "")

    def test_pdf_and_svg_have_the_glyphs_too(self):
        code = PLOT % (TITLES[0] + TITLES[2], "normal") + (
            "plt.savefig('a.pdf'); plt.savefig('a.svg')\n"
            "with plt.rc_context({'svg.fonttype': 'none', 'pdf.fonttype': 42}):\n"
            "    plt.savefig('b.pdf'); plt.savefig('b.svg')\n"
        )
        self.assertEqual(self.plot(code).text, "")

    def test_a_font_of_the_system_serves_where_the_package_is_missing(self):
        package = importlib.util.find_spec("noto_cjk_sans_otc").submodule_search_locations[0]
        with tempfile.TemporaryDirectory() as home:
            fonts = pathlib.Path(home, ".local", "share", "fonts")
            fonts.mkdir(parents=True)
            shutil.copy(pathlib.Path(package, "NotoSansCJK-Regular.ttc"), fonts)
            code = "import sys; sys.modules['noto_cjk_sans_otc'] = None\n" + PLOT % (TITLES[0], "bold")
            env = {"HOME": home, "MPLCONFIGDIR": home, "XDG_DATA_HOME": str(fonts.parent)}
            self.assertEqual(self.plot(code, **env).text, "")

    def test_the_locale_chooses_the_shape_of_the_characters(self):
        code = PLOT % (TITLES[0], "normal") + (
            "from matplotlib.font_manager import fontManager as m, FontProperties as F\n"
            "font = m._find_fonts_by_props(F())[-1]\nprint(getattr(font, 'face_index', 'none'), end='')"
        )
        for lang, face in {"C": "2", "ja_JP.UTF-8": "0", "zh_TW.UTF-8": "3"}.items():
            with self.subTest(lang):
                cell = self.plot("import matplotlib\n" + code, LANG=lang)
                if cell.text == "none":
                    self.skipTest("matplotlib before 3.11 reads only the first face")
                self.assertEqual(cell.text, face)

    def test_matplotlib_loaded_before_the_runtime_is_mended_too(self):
        with Kernel(runtime=False) as kernel:
            kernel.run("import matplotlib.pyplot")
            kernel.ask(bootstrap())
            self.assertEqual(kernel.run(PLOT % (TITLES[0], "normal")).text, "")

    def test_a_newer_runtime_takes_the_place_of_the_older_in_matplotlib(self):
        newer = sources()
        newer["heddle_runtime"] += "# newer\n"
        code = (
            "from matplotlib.font_manager import FontManager\n"
            "search = FontManager._find_fonts_by_props\n"
            "print(hasattr(search, '__wrapped__'), hasattr(search.__wrapped__, '__wrapped__'))"
        )
        with Kernel() as kernel:
            kernel.run("import matplotlib.pyplot")
            kernel.ask(bootstrap(newer))
            self.assertEqual(kernel.run(code).text, "True False\n")

    def test_starting_imports_no_library_and_is_quick(self):
        with Kernel() as kernel:
            code = (
                "import sys, time, heddle_runtime as r\n"
                "assert not {'matplotlib', 'pandas'} & set(sys.modules)\n"
                "def once():\n"
                "    t = time.perf_counter(); r.start(); return time.perf_counter() - t\n"
                "print(min(once() for _ in range(5)))"
            )
            self.assertLess(float(kernel.run(code).text), 0.002)

    def test_a_font_that_cannot_be_read_leaves_matplotlib_as_it_is(self):
        code = (
            "import heddle_runtime.plotting as p\n"
            "p.bundled_families = lambda manager: 1 / 0\n" + PLOT % ("plain", "normal")
        )
        self.assertEqual(self.plot(code).text, "")


class Inline(unittest.TestCase):
    def setUp(self):
        env = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
        self.kernel = Kernel(env=env)
        self.kernel.__enter__()
        self.addCleanup(self.kernel.__exit__)
        self.kernel.run("import matplotlib.pyplot as plt")

    def shown(self, code):
        cell = self.kernel.run(code)
        self.assertIsNone(cell.error)
        return len(cell.images)

    def test_a_figure_is_shown_once_in_the_cell_that_made_it(self):
        self.assertEqual(self.shown("plt.plot([1, 2])"), 1)
        self.assertEqual(self.shown("1 + 1"), 0)
        self.assertEqual(self.shown("plt.plot([1, 2]); plt.savefig('a.png'); plt.show()"), 1)
        self.assertEqual(self.shown("fig, ax = plt.subplots(); ax.plot([1])"), 1)
        self.assertEqual(self.shown("pass"), 0)

    def test_a_saved_and_closed_figure_is_not_shown(self):
        self.assertEqual(self.shown("plt.plot([1, 2]); plt.savefig('a.png'); plt.close()"), 0)
        self.assertTrue((self.kernel.cwd / "a.png").read_bytes().startswith(b"\x89PNG"))


if __name__ == "__main__":
    unittest.main()
