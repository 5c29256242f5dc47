# Starts ipykernel as `python -m` does, and imports nothing of it from the working directory.
#
# Run as ``python -c TEXT MODULE ARGUMENT...``; lines that begin with a hash are left out. Code that ran before may
# have left modules in the working directory: only code of the user's finds them, as soon as there is some. The folder
# is then put where IPython puts it. What PYTHONPATH has of folders that code can write to comes in HEDDLE_PYTHONPATH,
# and is put back with it.
import sys
sys.path[:] = [path for path in sys.path if path]
import os
from importlib.util import find_spec
module = sys.argv[1]
spec = find_spec(module)
if spec is None:
    sys.exit(sys.executable + ": No module named " + module)
sys.argv[:2] = [spec.origin]
from ipykernel.kernelapp import IPKernelApp
held_back = os.environ.pop("HEDDLE_PYTHONPATH", None)
app = IPKernelApp.instance()
put_back, app.init_path = [app.init_path], lambda: None
def begin():
    while put_back:
        put_back.pop()()
        if held_back is not None:
            os.environ["PYTHONPATH"] = held_back
            paths = [os.path.abspath(path) for path in held_back.split(os.pathsep)]
            sys.path[:0] = [path for path in paths if path not in sys.path]
def beginning(handler):
    def handle(stream, identity, request):
        content = request.get("content")
        if isinstance(content, dict) and content.get("code"):
            begin()
        return handler(stream, identity, request)
    return handle
app.initialize()
handlers = getattr(getattr(app, "kernel", None), "shell_handlers", None)
if handlers is None:
    begin()
for name in ("execute_request", "complete_request", "inspect_request"):
    if handlers and name in handlers:
        handlers[name] = beginning(handlers[name])
app.start()
