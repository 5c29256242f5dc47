"""The runtime arrives in one expression and leaves no trace in the session."""

import ast
import unittest

from kernel import CALL, KERNELSPEC, Kernel, bootstrap, sources

SHADOWS = """
exec = eval = compile = print = sys = json = importlib = None
builtins = sources = loader = None
def __import__(*_): raise RuntimeError("the user's own")
"""


class Bootstrap(unittest.TestCase):
    def test_it_answers_with_the_versions(self):
        with Kernel() as kernel:
            self.assertEqual(sorted(kernel.started), ["executable", "python", "version"])

    def test_it_leaves_no_name_history_or_output(self):
        look = "print(sorted(globals()), list(In), dict(Out), get_ipython().execution_count)"
        with Kernel(runtime=False) as bare, Kernel() as kernel:
            kernel.ask(CALL + "variables()")
            self.assertEqual(kernel.run(look).text, bare.run(look).text)

    def test_a_visit_mends_nothing_and_answers_calls(self):
        watches = "[type(f).__name__ for f in sys.meta_path if 'Watch' in type(f).__name__]"
        mended = f"import sys, warnings; len(warnings.filters), {watches}"
        with Kernel(runtime=False) as kernel:
            before = kernel.run(mended).of("execute_result")[0]["data"]
            self.assertEqual(kernel.ask(bootstrap(entry="visit"))["version"], "0.1.0")
            self.assertEqual(kernel.run(mended).of("execute_result")[0]["data"], before)
            (kernel.cwd / "数据.csv").write_text("a,b\n")
            (kernel.cwd / ".hidden").write_text("")
            files = kernel.ask(CALL + "working_directory()")["files"]
            self.assertIn(["数据.csv", 4], files)
            self.assertNotIn(".hidden", [name for name, _ in files])

    def test_a_second_time_changes_nothing(self):
        count = "len([m for m in sys.modules if 'heddle' in m]), len(sys.meta_path)"
        with Kernel() as kernel:
            kernel.run("import sys, heddle_runtime; first = heddle_runtime")
            before = kernel.run(count).of("execute_result")[0]["data"]
            kernel.ask(bootstrap())
            self.assertEqual(kernel.run(count).of("execute_result")[0]["data"], before)
            self.assertEqual(kernel.run("assert sys.modules['heddle_runtime'] is first").error, None)

    def test_another_version_replaces_it(self):
        newer = sources()
        newer["heddle_runtime"] = newer["heddle_runtime"].replace('"0.1.0"', '"9.9.9"')
        with Kernel() as kernel:
            kernel.run("x = 1")
            self.assertEqual(kernel.ask(bootstrap(newer))["version"], "9.9.9")
            self.assertEqual(list(kernel.variables()), ["x"])
            watches = "sum('Watch' in type(f).__name__ for f in __import__('sys').meta_path)"
            self.assertEqual(kernel.run(watches).of("execute_result")[0]["data"]["text/plain"], "1")

    def test_names_bound_by_the_user_are_not_in_the_way(self):
        with Kernel(runtime=False) as kernel:
            self.assertEqual(kernel.run(SHADOWS).error, None)
            kernel.ask(bootstrap())
            self.assertIn("json", kernel.variables())

    def test_a_folder_of_the_same_name_is_not_in_the_way(self):
        with Kernel(runtime=False) as kernel:
            (kernel.cwd / "heddle_runtime.py").write_text("raise SystemExit\n")
            kernel.ask(bootstrap())
            self.assertEqual(kernel.variables(), {})

    def test_a_runtime_that_fails_is_an_error_of_its_own_expression_only(self):
        broken = dict(sources(), heddle_runtime="1 / 0\n")
        with Kernel(runtime=False) as kernel:
            reply = kernel.reply_to(bootstrap(broken))
            self.assertEqual((reply["status"], reply["ename"]), ("error", "ZeroDivisionError"))
            self.assertEqual(kernel.run("print('still here')").text, "still here\n")
            kernel.ask(bootstrap())

    def test_a_traceback_shows_the_source(self):
        with Kernel() as kernel:
            cell = kernel.run("%xmode Plain\nimport heddle_runtime.short as s; s.clip(None)")
            traceback = "".join(cell.of("error")[0]["traceback"])
            self.assertIn("heddle_runtime/short.py", traceback)
            self.assertIn("text[: length + 1]", traceback)

    def test_inspect_finds_the_source(self):
        code = "import inspect, heddle_runtime.imports as p; print(inspect.getsource(p.watch))"
        with Kernel() as kernel:
            self.assertIn("def watch(actions):", kernel.run(code).text)

    def test_the_sources_are_python_3_9(self):
        for name, source in sources().items():
            with self.subTest(name):
                ast.parse(source, feature_version=(3, 9))
        ast.parse((KERNELSPEC / "bootstrap.py").read_text("utf-8"), mode="eval", feature_version=(3, 9))


if __name__ == "__main__":
    unittest.main()
