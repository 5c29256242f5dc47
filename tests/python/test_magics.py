"""The agent's magics, written where they are not the agent's."""

import unittest

from kernel import CALL, Kernel


class Magics(unittest.TestCase):
    def test_each_says_how_it_is_to_be_written(self):
        places = {
            "x = 1\n%ask what is x?": "ask",
            "x = 1\n%%ask what is x?": "ask",
            "x = 1\n%%ask\nwhat is x, and why?": "ask",
            "if True:\n    %ask what is x?\nx = 1": "ask",
            "%ask what is x?\nx = 1": "ask",
            "%%time\n%ask what is x?": "ask",
            "%%ask --model m\nwhat is x?": "ask",
            "get_ipython().run_cell_magic('ask', '', 'what is x?')": "ask",
            "get_ipython().run_line_magic('ask', 'what is x?')": "ask",
            "x = 1\n%fix": "fix",
            "x = 1\n%%fix": "fix",
        }
        with Kernel() as kernel:
            kernel.ask(CALL + "start()")  # once more, as another Heddle does
            for code, name in places.items():
                with self.subTest(code):
                    cell = kernel.run(code)
                    self.assertEqual(cell.reply["status"], "error")
                    self.assertIn("UsageError: %%%s is for the agent" % name, cell.text)
                    self.assertIn("%%%%%s on " % name, cell.text)
                    self.assertIn("heddle attach, write /ask and", cell.text)
                    self.assertNotIn("Traceback", cell.text)

    def test_help_and_text_are_left_alone(self):
        with Kernel() as kernel:
            self.assertEqual(kernel.run('text = """\n%ask a?\n"""').reply["status"], "ok")
            self.assertEqual(kernel.run("text").of("execute_result")[0]["data"]["text/plain"], repr("\n%ask a?\n"))
            self.assertIn("%%ask on the first line", str(kernel.run("%ask?").reply["payload"]))


if __name__ == "__main__":
    unittest.main()
