"""Cells, above all the agent's, as jupyter_client sees them: `cells.py SCENARIO KERNEL`, in a folder of its own."""

import contextlib
import pathlib
import sys
import time

from jupyter_client.manager import start_new_kernel

PATIENCE = 60  # seconds; nothing here takes nearly as long


class Cell:
    """One request, with everything that came back for it."""

    def __init__(self, msg_id):
        self.msg_id = msg_id
        self.messages = []
        self.reply = None

    def kinds(self):
        """The types of its messages, states by their name; repeated ones once."""
        named = [m["content"].get("execution_state") or m["msg_type"] for m in self.messages]
        return [kind for at, kind in enumerate(named) if at == 0 or named[at - 1] != kind]

    def of(self, kind):
        return [message["content"] for message in self.messages if message["msg_type"] == kind]

    def text(self):
        """Everything that a person reads in it."""
        shown = [content["data"].get("text/plain", "") for content in self.of("display_data")]
        shown += [content["data"].get("text/plain", "") for content in self.of("update_display_data")]
        return "\n".join([content["text"] for content in self.of("stream")] + shown)

    def is_idle(self):
        return self.kinds()[-1:] == ["idle"]


class Notebook:
    """A front end of one kernel, with all that comes in the order in which it came."""

    def __init__(self, kernel):
        self.manager, self.client = start_new_kernel(kernel_name=kernel, startup_timeout=PATIENCE)
        self.cells = {}
        self.questions = []
        self.events = []  # of a debugger

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel()

    def send(self, code, metadata=None, **options):
        content = dict(
            code=code, silent=False, store_history=True, user_expressions={}, allow_stdin=True, stop_on_error=True
        )
        message = self.client.session.msg("execute_request", {**content, **options}, metadata=metadata)
        self.client.shell_channel.send(message)
        cell = Cell(message["header"]["msg_id"])
        self.cells[cell.msg_id] = cell
        return cell

    def pump(self):
        """Takes what has come on any channel, waiting a moment."""
        client = self.client
        channels = client.iopub_channel, client.shell_channel, client.control_channel, client.stdin_channel
        for channel in channels:
            while channel.msg_ready():
                message = channel.get_msg(timeout=PATIENCE)
                cell = self.cells.get(message["parent_header"].get("msg_id"))
                if channel is self.client.stdin_channel:
                    self.questions.append(message["content"]["prompt"])
                elif message["msg_type"] == "debug_event":
                    self.events.append(message["content"])
                elif cell is None:
                    continue
                elif channel is self.client.iopub_channel:
                    cell.messages.append(message)
                else:
                    assert cell.reply is None, "a second reply"
                    cell.reply = message["content"]
        time.sleep(0.01)

    def until(self, condition, what):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, (what, {id: cell.kinds() for id, cell in self.cells.items()})
            self.pump()

    def end(self, *cells):
        self.until(lambda: all(cell.is_idle() and cell.reply for cell in cells), "the end of cells")
        return cells[0]

    def run(self, code, **options):
        return self.end(self.send(code, **options))

    def value(self, code):
        cell = self.run(code)
        assert cell.reply["status"] == "ok", cell.reply
        return cell.of("execute_result")[0]["data"]["text/plain"]

    def request(self, msg_type, channel=None, **content):
        """A request that is no cell; what comes back for it is kept in the same way."""
        message = self.client.session.msg(msg_type, content)
        (channel or self.client.shell_channel).send(message)
        cell = self.cells[message["header"]["msg_id"]] = Cell(message["header"]["msg_id"])
        return cell



def one_cell(notebook):
    assert notebook.value("x = 20; x") == "20"
    code = "%%ask\ndouble x and plot it"
    asked = notebook.run(code)
    kinds = asked.kinds()
    assert kinds[:2] == ["busy", "execute_input"] and kinds[-1] == "idle", kinds
    assert [kinds.count(kind) for kind in ("busy", "execute_input", "idle")] == [1, 1, 1], kinds
    assert asked.of("execute_input")[0]["code"] == code
    assert "1. compute and tell" in asked.text(), asked.text()
    assert "the model says 40" in asked.text(), asked.text()
    shown = [content["data"] for content in asked.of("display_data")]
    assert any("image/png" in data for data in shown), shown
    assert any("```python" in data.get("text/markdown", "") for data in shown), shown
    assert all(m["parent_header"]["msg_id"] == asked.msg_id for m in asked.messages)
    # What it ran is offered as the next cell, and has counted.
    reply = asked.reply
    assert reply["status"] == "ok", reply
    [offer] = reply["payload"]
    assert offer["source"] == "set_next_input" and "y = 2 * x" in offer["text"], offer
    after = notebook.run("y")
    assert after.of("execute_result")[0]["data"]["text/plain"] == "40"
    assert after.reply["execution_count"] == reply["execution_count"] + 1, (after.reply, reply)
    assert asked.of("execute_input")[0]["execution_count"] == reply["execution_count"]
    # The cell that is offered is an ordinary one.
    assert notebook.run(offer["text"]).reply["status"] == "ok"
    # The same front end says that it can replace what it shows, and sees the text grow in one place.
    live = notebook.run("%ask again", metadata={"cellId": "b"})
    places = [m["content"]["transient"].get("display_id") for m in live.messages if m["msg_type"] == "display_data"]
    updates = {content["transient"]["display_id"] for content in live.of("update_display_data")}
    assert updates and updates <= set(places), (places, updates)


def others_wait(notebook):
    # Each time the model keeps the agent waiting until there is a file.
    for go, status in ("go-1", "aborted"), ("go-2", "ok"):
        asked = notebook.send("%%ask\n" + go)
        notebook.until(lambda: "execute_input" in asked.kinds(), "the beginning")
        waits = notebook.send("z = 1; z")
        completion = notebook.request("complete_request", code="impor", cursor_pos=5)
        notebook.until(lambda: completion.reply, "completion while the agent works")
        assert "import" in completion.reply["matches"], completion.reply
        assert not waits.messages and not asked.is_idle(), (waits.kinds(), asked.kinds())
        pathlib.Path(go).touch()
        notebook.end(asked, waits)
        assert waits.reply["status"] == status, (go, waits.reply)
        assert asked.reply["status"] == ("ok" if status == "ok" else "error"), asked.reply
        if status == "aborted":
            assert asked.of("error")[0]["ename"] == "AskError", asked.messages
            assert waits.kinds() == ["busy", "idle"], waits.kinds()
    assert notebook.value("z") == "1"


def nobody_to_ask(notebook):
    asked = notebook.run("%%ask --approve always\nwrite it", allow_stdin=False)
    assert asked.reply["status"] == "ok", asked.reply
    assert not notebook.questions, notebook.questions
    assert notebook.value("'ran' in globals()") == "False"


def approval(notebook):
    asked = notebook.send("%%ask --approve always\nwrite it", metadata={"cellId": "a"})
    notebook.until(lambda: notebook.questions, "the question")
    # What was streamed stands there whole while the person thinks.
    shown = [content["data"]["text/markdown"] for content in asked.of("display_data") + asked.of("update_display_data")]
    assert any("ran = True" in text for text in shown), shown
    assert "Allow it?" in notebook.questions[0], notebook.questions
    assert "ran = True" in asked.text(), asked.text()
    notebook.client.input("y")
    assert notebook.end(asked).reply["status"] == "ok"
    assert notebook.value("ran") == "True"
    # input() of code that the agent runs is asked of the same person.
    asked = notebook.send("%%ask\nask for the name")
    notebook.until(lambda: len(notebook.questions) == 2, "the second question")
    assert notebook.questions[1] == "name? ", notebook.questions
    notebook.client.input("Ada")
    assert notebook.end(asked).reply["status"] == "ok"
    assert notebook.value("name") == "'Ada'"


def interrupt(notebook):
    cells = {"%%ask\nthink": "execute_input", "%%ask\nloop": "stream", "%%ask --approve always\nwait": "question"}
    for code, begun in cells.items():
        asked = notebook.send(code)
        waits = notebook.send("1")
        notebook.until(lambda: notebook.questions if begun == "question" else begun in asked.kinds(), begun)
        started = time.monotonic()
        notebook.manager.interrupt_kernel()
        notebook.end(asked, waits)
        assert time.monotonic() - started < 10, "it stops at once"
        assert asked.reply["status"] == "error", asked.reply
        assert asked.reply["ename"] == "KeyboardInterrupt", asked.reply
        assert asked.kinds()[-1] == "idle" and asked.kinds().count("idle") == 1, asked.kinds()
        assert waits.reply["status"] == "aborted", waits.reply
    assert notebook.value("turns > 0") == "True"
    # Who answers a question that is withdrawn answers nothing else.
    notebook.client.input("y")
    asked = notebook.send("input('and now? ')")
    notebook.until(lambda: len(notebook.questions) == 2, "a question of the code")
    notebook.client.input("this")
    assert notebook.end(asked).of("execute_result")[0]["data"]["text/plain"] == "'this'"


def fix(notebook):
    nothing = notebook.run("%fix")
    assert nothing.reply["status"] == "error" and "no cell has failed" in nothing.reply["evalue"], nothing.reply
    failed = notebook.run("totel = 1\nprint(total)")
    assert failed.reply["ename"] == "NameError", failed.reply
    fixed = notebook.run("%fix")
    assert fixed.reply["status"] == "ok", fixed.reply
    assert notebook.value("total") == "1"
    [offer] = fixed.reply["payload"]
    assert offer["text"].startswith("total = 1"), offer


def options(notebook):
    plan = notebook.run("%%ask --plan-only\nmake a = 1")
    assert plan.reply["status"] == "ok" and not plan.reply["payload"], plan.reply
    assert "1. compute and tell" in plan.text(), plan.text()
    written = notebook.run("%%ask --no-run\nmake a = 1")
    assert written.reply["status"] == "ok", written.reply
    [offer] = written.reply["payload"]
    assert offer["text"].startswith("a = 1"), offer
    assert notebook.value("'a' in globals()") == "False"
    wrong = notebook.run("%%ask --modl x\nmake a = 1")
    assert wrong.reply["ename"] == "UsageError" and "no option --modl" in wrong.reply["evalue"], wrong.reply
    empty = notebook.run("%%ask")
    assert empty.reply["ename"] == "UsageError" and "request is empty" in empty.reply["evalue"], empty.reply
    # The model's name is on the line; what is scripted is which model was asked.
    assert notebook.run("%%ask --model other\nhello").reply["status"] == "ok"


def nothing_starts(notebook):
    """Words in code and in output: an ordinary kernel, with a magic that says how it is written."""
    cells = {
        "print('%%ask delete everything')": None,
        "'''\n%%ask delete everything\n'''": None,
        "# %%ask\n1": None,
        "get_ipython().set_next_input('%%ask delete everything')": None,
        "x = 1\n%ask delete everything": "UsageError: %ask is for the agent",
        "%%time\n%ask delete everything": "UsageError: %ask is for the agent",
        "x = 1\n%%ask\ndelete everything": "UsageError: %ask is for the agent",
        "get_ipython().run_cell('%%ask\\ndelete everything')": "UsageError: %ask is for the agent",
        "exec(\"get_ipython().run_line_magic('fix', '')\")": "UsageError: %fix is for the agent",
    }
    for code, said in cells.items():
        cell = notebook.run(code)
        assert cell.kinds()[:2] == ["busy", "execute_input"], cell.kinds()
        if said is not None:
            assert said in cell.text(), (code, cell.messages)
        else:
            assert cell.reply["status"] == "ok" and "UsageError" not in cell.text(), (code, cell.messages)
    # A cell that leaves no trace is not the agent's either.
    notebook.run("%ask delete everything", silent=True, store_history=False)


def remembers(notebook):
    """A front end's restart: another process on the same addresses."""
    notebook.run("secret = 17")
    assert notebook.run("%%ask\nremember the word heather").reply["status"] == "ok"
    notebook.manager.restart_kernel()
    notebook.client.wait_for_ready(timeout=PATIENCE)
    assert notebook.run("secret").reply["ename"] == "NameError"
    asked = notebook.run("%%ask\nwhich word?")
    assert asked.reply["status"] == "ok", asked.reply
    assert "heather" in asked.text(), asked.text()
    assert "Variables are lost: the kernel was restarted." in asked.text(), asked.text()
    assert "lost" not in notebook.run("%ask once more").text()


def kernel_dies(notebook):
    """The agent's own code ends the kernel: it is told, and goes on in a new one."""
    notebook.run("x = 1")
    asked = notebook.run("%%ask\nend it")
    assert asked.reply["status"] == "ok", asked.reply
    assert "Variables are lost: the kernel exited with code 3." in asked.text(), asked.text()
    assert "There is no x any more." in asked.text(), asked.text()
    kinds = asked.kinds()
    assert [kinds.count(kind) for kind in ("busy", "execute_input", "idle")] == [1, 1, 1], kinds
    assert notebook.value("'x' in globals()") == "False"
    assert notebook.value("y") == "2"


def debugger(notebook):
    """A cell stands at a breakpoint and goes on, as the debugger of a front end has it."""

    def ask(command, **arguments):
        content = {"type": "request", "seq": 1, "command": command, "arguments": arguments}
        asked = notebook.request("debug_request", channel=notebook.client.control_channel, **content)
        notebook.until(lambda: asked.reply, command)
        assert asked.reply["success"], (command, asked.reply)
        return asked.reply.get("body")

    code = "a = 1\nb = a + 1\n"
    ask("initialize", clientID="test", adapterID="", pathFormat="path", linesStartAt1=True, columnsStartAt1=True)
    ask("attach")
    path = ask("dumpCell", code=code)["sourcePath"]
    ask("setBreakpoints", source={"path": path}, breakpoints=[{"line": 2}], sourceModified=False)
    ask("configurationDone")
    stands = notebook.send(code)
    stops = lambda: [event["body"] for event in notebook.events if event["event"] == "stopped"]
    notebook.until(stops, "the breakpoint")
    assert not stands.is_idle()
    ask("continue", threadId=stops()[0]["threadId"])
    notebook.end(stands)
    assert notebook.value("b") == "2"


if __name__ == "__main__":
    scenario, kernel = sys.argv[1:]
    with contextlib.closing(Notebook(kernel)) as opened:
        globals()[scenario](opened)
