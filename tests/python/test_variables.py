"""The list of the user's variables: complete, short, and safe to ask for."""

import time
import unittest

from kernel import CALL, Kernel

HOSTILE = """
import time
class Meta(type):
    def __getattribute__(cls, name): time.sleep(9); raise RuntimeError("asked the class")
class Slow(metaclass=Meta):
    def __getattribute__(self, name): time.sleep(9); raise RuntimeError("asked the object")
    def __repr__(self): time.sleep(9)
    def __len__(self): time.sleep(9)
slow = Slow()
class SlowList(list):
    def __iter__(self): time.sleep(9)
    def __len__(self): time.sleep(9)
    def __repr__(self): time.sleep(9)
slow_list = SlowList([1, 2])
class SlowFloat(float):
    def __repr__(self): time.sleep(9)
slow_float = SlowFloat(1.5)
class Broken:
    @property
    def __class__(self): raise RuntimeError("no class")
    def __repr__(self): raise RuntimeError("no repr")
broken = Broken()
def f(a, b=slow): pass
from unittest.mock import MagicMock
mock = MagicMock()
loop = []; loop.append(loop)
text = "\\ud800 \\x1b[31m" * 10**6
big = 7 ** 100000
many = [object()] * 10**6
deep = []
for _ in range(100000): deep = [deep]
globals()["not a name"] = globals()[5] = 1
"""

FRAMES = """
import numpy as np, pandas as pd
array = np.arange(12.0).reshape(3, 4)
class Quiet:
    def __repr__(self): raise RuntimeError("no repr")
objects = np.array([Quiet(), None])
scalar = np.float64(1.5)
extended = np.longdouble(2)
day = np.datetime64("2024-01-02")
frame = pd.DataFrame({"month": ["01", "02"], "銷售": [1.5, 2.5], 3: [True, False]})
wide = pd.DataFrame(np.zeros((2, 3000)))
series = pd.Series([1, 2, 3], name="units")
index = pd.MultiIndex.from_tuples([(1, "a")])
table = frame.groupby("month")
stamp = pd.Timestamp("2024-01-02")
"""


class Variables(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.kernel = cls.enterClassContext(Kernel()) if hasattr(cls, "enterClassContext") else None
        if cls.kernel is None:  # Python 3.10
            cls.kernel = Kernel().__enter__()
            cls.addClassCleanup(cls.kernel.__exit__)

    def tearDown(self):
        self.kernel.run("%reset -f")

    def described(self, code):
        self.assertIsNone(self.kernel.run(code).error)
        return self.kernel.variables()

    def test_a_new_kernel_has_none(self):
        self.assertEqual(self.described(""), {})

    def test_only_what_the_user_bound_is_listed(self):
        found = self.described(
            "import math\nfrom math import sqrt\nfrom pathlib import Path\nfrom json import dumps\n"
            "_private = 1\nx = 1\nx\nhere = Path('a')\nexit = 'rebound'"
        )
        self.assertEqual(sorted(found), ["exit", "here", "x"])

    def test_short_forms(self):
        code = (
            "a = 1; b = 'text'; c = [1, (2,), {3}]; d = {'k': None}; e = set(); f = 'x' * 300\n"
            "import collections, enum; g = collections.Counter('aab'); h = list(range(100))\n"
            "Color = enum.Enum('Color', 'RED'); i = Color.RED; j = range(3); k = True"
        )
        found = {name: entry["summary"] for name, entry in self.described(code).items()}
        self.assertEqual(found["a"], "1")
        self.assertEqual(found["b"], "'text'")
        self.assertEqual(found["c"], "[1, (2,), {3}]")
        self.assertEqual(found["d"], "{'k': None}")
        self.assertEqual(found["e"], "set()")
        self.assertEqual(found["f"], "'" + "x" * 80 + "'… (300 characters)")
        self.assertEqual(found["g"], "Counter({'a': 2, 'b': 1})")
        self.assertEqual(found["h"], "100 items: [0, 1, 2, 3, 4, 5, …]")
        self.assertEqual((found["i"], found["j"], found["k"]), ("Color.RED", "range(0, 3)", "True"))

    def test_functions_and_classes_have_a_signature(self):
        found = self.described(
            "def area(w, /, h: float = 2.0, *rest, unit='cm', **more):\n    'Of a box.\\n\\nLong.'\n"
            "class Box:\n    'A box.'\n    def __init__(self, w, *, h=1): self.w = w; self.h = h\n"
            "box = Box(3)"
        )
        signature = "(w, /, h: float = 2.0, *rest, unit='cm', **more)"
        self.assertEqual(found["area"]["signature"], signature)
        self.assertEqual(found["area"]["summary"], "Of a box.")
        self.assertEqual(found["Box"]["signature"], "(w, *, h=1)")
        self.assertEqual(found["box"]["summary"], "Box(w=3, h=1)")
        self.assertEqual(found["box"]["type"], "Box")

    def test_hostile_values_are_described_without_running_them(self):
        self.assertIsNone(self.kernel.run(HOSTILE).error)
        start = time.monotonic()
        answer = self.kernel.ask(CALL + "variables()")
        self.assertLess(time.monotonic() - start, 2)
        self.assertEqual(answer["omitted"], 0)
        found = {entry["name"]: entry for entry in answer["variables"]}
        self.assertEqual(found["slow"]["summary"], "Slow()")
        self.assertEqual(found["slow_list"]["summary"], "SlowList([1, 2])")
        self.assertEqual(found["slow_float"]["summary"], "1.5")
        self.assertEqual(found["broken"]["type"], "Broken")
        self.assertEqual(found["f"]["signature"], "(a, b=Slow())")
        self.assertEqual(found["loop"]["summary"], "[[[…]]]")
        self.assertEqual(found["big"]["summary"], "int of 280736 bits")
        self.assertIn("MagicMock", found["mock"]["summary"])
        for entry in found.values():
            self.assertLessEqual(len(entry["summary"]), 200)
            self.assertTrue(entry["summary"].isprintable(), entry)

    def test_arrays_and_frames_have_shape_dtype_and_columns(self):
        found = self.described(FRAMES)
        self.assertEqual(found["array"]["shape"], [3, 4])
        self.assertEqual(found["array"]["dtype"], "float64")
        self.assertEqual(found["array"]["summary"], "[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, …]")
        self.assertEqual(found["objects"]["summary"], "[Quiet(), None]")
        self.assertEqual([found[n]["summary"] for n in ("scalar", "extended")], ["1.5", "2.0"])
        self.assertEqual(found["day"]["summary"], "2024-01-02")
        self.assertEqual(found["frame"]["shape"], [2, 3])
        self.assertEqual(list(found["frame"]["columns"]), ["month", "銷售", "3"])
        self.assertEqual(found["frame"]["columns"]["銷售"], "float64")
        self.assertEqual(found["frame"]["summary"], "2 rows × 3 columns: month, 銷售, 3")
        self.assertEqual(found["wide"]["shape"], [2, 3000])
        self.assertEqual(len(found["wide"]["columns"]), 50)
        self.assertEqual(found["series"]["summary"], "'units': [1, 2, 3]")
        self.assertEqual(found["index"]["summary"], "[(1, 'a')]")
        self.assertEqual(found["stamp"]["summary"], "Timestamp('2024-01-02 00:00:00')")

    def test_the_newest_hundred_are_listed_and_the_rest_counted(self):
        self.kernel.run("for i in range(150): globals()['v%d' % i] = i")
        answer = self.kernel.ask(CALL + "variables()")
        names = [entry["name"] for entry in answer["variables"]]
        self.assertEqual((len(names), names[-1], answer["omitted"]), (100, "v149", 51))

    def test_a_large_library_object_takes_no_time(self):
        self.kernel.run("import numpy, pandas\ndata = numpy.zeros((4000, 5000))\n"
                        "turned = data.T; frame = pandas.DataFrame(data)")
        start = time.monotonic()
        self.assertEqual(self.kernel.variables()["turned"]["shape"], [5000, 4000])
        self.assertLess(time.monotonic() - start, 1)


if __name__ == "__main__":
    unittest.main()
