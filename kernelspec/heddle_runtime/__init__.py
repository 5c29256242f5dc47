"""What Heddle needs to know and mend inside a Python kernel.

Heddle sends these modules when a kernel is ready (see ``bootstrap.py``) and
calls the functions below by ``user_expressions``. Each returns an `Answer`,
which IPython renders as ``application/json``: nothing is printed, and nothing
is read out of printed text. A function that fails shows as an ``error`` in
the reply to its own expression and never in a cell of the user.
"""

import sys
import warnings

from .answer import Answer

__version__ = "0.1.0"


def start():
    """Prepare the kernel for the user's cells; calling it again is harmless.

    Answers ``{"version", "python", "executable"}``, all strings.
    """
    from . import imports, magics, plotting, publishing, shelter, tables

    publishing.make_room()
    imports.watch({**plotting.ACTIONS, **tables.ACTIONS, **shelter.ACTIONS})
    magics.explain()
    # IPython's advice for who types `sys.exit()` at its prompt; here it comes from code.
    warnings.filterwarnings("ignore", message="To exit: use")
    return visit()


def visit():
    """Change nothing: the kernel is somebody else's. Answers as `start` does."""
    return Answer(
        {
            "version": __version__,
            "python": sys.version.split()[0],
            "executable": sys.executable or "",
        }
    )


def variables():
    """The user's variables, as `heddle_runtime.namespace` describes them.

    Answers ``{"variables": [...], "omitted": count}``.
    """
    from .namespace import describe_namespace

    return Answer(describe_namespace())


def working_directory():
    """The files of the kernel's working directory, as `heddle_runtime.files` describes them.

    Answers ``{"cwd": path, "files": [[name, bytes], ...]}``.
    """
    from .files import describe_folder

    return Answer(describe_folder())


def last_table():
    """The last cell's value as a table, as `heddle_runtime.tables` describes it, or null."""
    from .tables import describe_last

    return Answer(describe_last())


def use_packages(folder):
    """Let imports find the packages in `folder`, as `heddle_runtime.packages` describes it. Answers null."""
    from .packages import use

    use(folder)
    return Answer(None)
