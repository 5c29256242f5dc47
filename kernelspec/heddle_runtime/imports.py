"""Mends the user's libraries as they are imported; nothing is imported before.

A mend is an action, `action(module)`, that runs once the module has loaded.
"""

import functools
import importlib.util
import logging
import sys

log = logging.getLogger(__name__)


class ImportWatch:
    """An import finder that calls {module name: action} as modules are loaded."""

    def __init__(self, actions):
        self.actions = actions

    def find_spec(self, fullname, path=None, target=None):
        # Taken out first: the search below comes by here again.
        action = self.actions.pop(fullname, None)
        if action is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is not None:
            follow(spec.loader, action)
        return spec


def watch(actions):
    """Run the actions of the modules that are loaded now, and the others as theirs load."""
    # The finder of an earlier runtime has nothing to wait for any more.
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if type(finder).__module__ != __name__
    ]
    waiting = {}
    for name, action in actions.items():
        if name in sys.modules:
            action(sys.modules[name])
        else:
            waiting[name] = action
    if waiting:
        sys.meta_path.insert(0, ImportWatch(waiting))


def follow(loader, action):
    """Let `loader`, which serves one module, end with `action(module)`."""
    execute = loader.exec_module

    def exec_module(module):
        execute(module)
        action(module)

    try:
        loader.exec_module = exec_module
    except AttributeError:  # a loader without a __dict__: nothing mended, no harm
        log.debug("cannot follow an import of %r", loader)


def harmless(action):
    """`action`, whatever goes wrong in it: the library then works as before."""

    @functools.wraps(action)
    def attempt(module):
        try:
            action(module)
        except Exception:
            log.debug("%s failed", action.__name__, exc_info=True)

    return attempt
