"""jupyter_kernel_test against the kernel that HEDDLE_TEST_KERNEL names."""

import os
import unittest

import jupyter_kernel_test


class Heddle(jupyter_kernel_test.KernelTests):
    kernel_name = os.environ["HEDDLE_TEST_KERNEL"]
    language_name = "python"
    file_extension = ".py"

    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('oops', file=sys.stderr)"
    code_page_something = "zip?"
    code_generate_error = "raise ValueError('expected')"
    code_execute_result = [
        {"code": "1+2+3", "result": "6"},
        {"code": "'\U0001d538' * 2", "result": "'\U0001d538\U0001d538'"},
    ]
    code_display_data = [
        {
            "code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))",
            "mime": "text/html",
        },
        {
            "code": "from IPython.display import Math, display; display(Math('$x$'))",
            "mime": "text/latex",
        },
    ]
    code_clear_output = "from IPython.display import clear_output; clear_output()"
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "search")
    completion_samples = [
        {"text": "zi", "matches": {"zip"}},
        {"text": "print('\U0001d538'); zi", "matches": {"zip"}},
    ]
    complete_code_samples = ["x = 1", "def f():\n  return 1\n\n", "print('\U0001d538')"]
    incomplete_code_samples = ["print('''hello", "for i in range(3):"]
    invalid_code_samples = ["import = 7q"]
    code_inspect_sample = "zip"


class Welcome(jupyter_kernel_test.IopubWelcomeTests):
    kernel_name = os.environ["HEDDLE_TEST_KERNEL"]
    support_iopub_welcome = True


if __name__ == "__main__":
    unittest.main(verbosity=2)
