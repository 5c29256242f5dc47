"""Tables with Chinese, Japanese and Korean text, printed where such a character takes two columns."""

import unicodedata
import unittest

from kernel import Kernel, bootstrap

FRAME = "pd.DataFrame({'月份': ['一月', '十二月'], 'sales': [1, 22]})"


def width(line):
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line)


class Alignment(unittest.TestCase):
    def assert_aligned(self, text):
        widths = {width(line) for line in text.splitlines()}
        self.assertEqual(len(widths), 1, text)

    def test_columns_line_up(self):
        with Kernel() as kernel:
            self.assert_aligned(kernel.run("import pandas as pd\nprint(%s)" % FRAME).text)

    def test_pandas_loaded_before_the_runtime_is_mended_too(self):
        with Kernel(runtime=False) as kernel:
            kernel.run("import pandas as pd")
            kernel.ask(bootstrap())
            self.assert_aligned(kernel.run("print(%s)" % FRAME).text)

    def test_what_the_user_sets_holds(self):
        code = "import pandas as pd\npd.set_option('display.unicode.east_asian_width', False)\n"
        with Kernel() as kernel:
            kernel.run(code)
            text = kernel.run("print(%s)" % FRAME).text
            self.assertGreater(len({width(line) for line in text.splitlines()}), 1, text)


if __name__ == "__main__":
    unittest.main()
