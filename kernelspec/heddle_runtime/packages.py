"""Packages that Heddle has installed beside the kernel's own."""

import importlib
import sys


def use(folder):
    """Let imports find what is in `folder` now, after everything that is found elsewhere.

    Last on the path, it cannot put a module in the place of one of Python's or
    of the environment's. Lines of ``.pth`` files are not run.
    """
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.append(folder)
    importlib.invalidate_caches()
