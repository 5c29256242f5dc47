"""A real kernel for the tests, driven over the protocol as Heddle does it."""

import json
import pathlib
import tempfile

from jupyter_client.manager import KernelManager

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERNELSPEC = ROOT / "kernelspec"
CALL = '(0 for _ in ()).gi_frame.f_builtins["__import__"]("heddle_runtime").'
SECONDS = 60  # a hang ends the test; nothing waits for it otherwise


def sources():
    """The modules of the runtime, {module name: source}."""
    found = {}
    for path in sorted((KERNELSPEC / "heddle_runtime").glob("*.py")):
        name = "heddle_runtime" if path.stem == "__init__" else "heddle_runtime." + path.stem
        found[name] = path.read_text(encoding="utf-8")
    return found


def bootstrap(modules=None, entry="start"):
    """The expression that installs the runtime."""
    template = (KERNELSPEC / "bootstrap.py").read_text(encoding="utf-8")
    text = json.dumps(modules or sources(), ensure_ascii=False)
    return template.replace("__SOURCES__", text).replace("__ENTRY__", entry)


class Cell:
    """What came back from one execution."""

    def __init__(self, reply, messages):
        self.reply = reply
        self.messages = messages

    def of(self, *types):
        return [m["content"] for m in self.messages if m["msg_type"] in types]

    @property
    def text(self):
        return "".join(content["text"] for content in self.of("stream"))

    @property
    def images(self):
        shown = self.of("display_data", "execute_result")
        return [c["data"]["image/png"] for c in shown if "image/png" in c["data"]]

    @property
    def error(self):
        return next(("%(ename)s: %(evalue)s" % c for c in self.of("error")), None)


class Kernel:
    """A kernel in a fresh folder; `with Kernel() as kernel`."""

    def __init__(self, runtime=True, env=None):
        self.folder = tempfile.TemporaryDirectory(prefix="heddle-")
        self.runtime = runtime
        self.env = env

    def __enter__(self):
        # The transport's socket files are relative to the kernel's folder.
        connection = pathlib.Path(self.folder.name, "kernel.json")
        self.manager = KernelManager(
            transport="ipc", connection_file=str(connection), ip=str(connection.with_suffix(""))
        )
        work = pathlib.Path(self.folder.name, "work")
        work.mkdir()
        self.cwd = work
        options = {} if self.env is None else {"env": self.env}
        self.manager.start_kernel(cwd=str(work), **options)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        try:
            self.client.wait_for_ready(timeout=SECONDS)
            if self.runtime:
                self.started = self.ask(bootstrap())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.folder.cleanup()

    def run(self, code, silent=False, expressions=None):
        """Execute `code` to its end: shell reply and idle."""
        messages = []
        reply = self.client.execute_interactive(
            code,
            silent=silent,
            store_history=not silent,
            user_expressions=expressions or {},
            allow_stdin=False,
            output_hook=messages.append,
            timeout=SECONDS,
        )
        return Cell(reply["content"], messages)

    def reply_to(self, expression):
        """The reply to one expression, in a silent and empty execution."""
        cell = self.run("", silent=True, expressions={"answer": expression})
        assert not cell.of("stream", "display_data", "error"), cell.messages
        return cell.reply["user_expressions"]["answer"]

    def ask(self, expression):
        """The JSON that an expression of the runtime answers."""
        reply = self.reply_to(expression)
        assert reply["status"] == "ok", reply
        return reply["data"]["application/json"]

    def variables(self):
        """The described variables, by name."""
        answer = self.ask(CALL + "variables()")
        return {entry["name"]: entry for entry in answer["variables"]}
