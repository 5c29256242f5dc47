"""What Heddle asks of a kernel's Python about packages, outside of any kernel.

Run as ``python -I -c TEXT COMMAND ARGUMENT...``: isolated, so that neither the
working directory nor a variable of the environment puts a module in the place
of one of Python's own.

- ``installed`` prints ``{name: version}`` of what the environment has.
- ``needed SITE NAME[EXTRA]...`` prints the names of the packages in the folder
  SITE that those and their dependencies are. Reads metadata, imports nothing.
- ``tag`` prints what its compiled modules are for, as JSON.
- ``pip ...`` is pip, in the copy that Python's ensurepip brings where the
  environment has none.

``--beside SITE`` before the command: the environment is another Python's, with
its packages in the folder SITE. Code may have written there: it is read, and
nothing of it is imported or run.
"""

import glob
import json
import os
import platform
import re
import runpy
import sys
import sysconfig


def find_pip():
    """Make `pip` importable."""
    try:
        import pip  # noqa: F401
    except ImportError:
        import ensurepip

        bundled = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
        for folder in (sysconfig.get_config_var("WHEEL_PKG_DIR") or bundled, bundled):
            wheels = sorted(glob.glob(os.path.join(folder, "pip-*.whl")))
            if wheels:
                sys.path.insert(0, wheels[-1])
                return


class Nothing:
    """What an import finds in a folder that is only read."""

    def find_spec(self, fullname, target=None):
        return None


def look_beside(site):
    """Let `site` have the place of this Python's own packages."""
    find_pip()
    import pip  # noqa: F401

    # pip's other way to look asks the importers of the folders, of which this one has none.
    os.environ["_PIP_USE_IMPORTLIB_METADATA"] = "1"
    own = ("site-packages", "dist-packages")
    sys.path[:] = [path for path in sys.path if os.path.basename(path) not in own]
    sys.path.append(site)
    sys.path_importer_cache[site] = Nothing()


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(**where):
    from importlib import metadata

    found = {}
    for distribution in metadata.distributions(**where):
        name = distribution.metadata["Name"]
        # The first one on the path is the one that is imported.
        if name:
            found.setdefault(normal(name), distribution)
    return found


def needed(site, roots):
    find_pip()
    from pip._vendor.packaging.requirements import Requirement

    present = installed(path=[site])
    reached, waiting = set(), [Requirement(root) for root in roots]
    while waiting:
        requirement = waiting.pop()
        name, extras = normal(requirement.name), requirement.extras or {""}
        for extra in extras:
            if (name, extra) in reached or name not in present:
                continue
            reached.add((name, extra))
            for text in present[name].requires or ():
                child = Requirement(text)
                environment = {"extra": extra}
                if child.marker is None or child.marker.evaluate(environment):
                    waiting.append(child)
    return sorted({name for name, _ in reached})


def main(command, *arguments):
    if command == "--beside":
        look_beside(arguments[0])
        main(*arguments[1:])
    elif command == "installed":
        print(json.dumps({name: found.version for name, found in installed().items()}))
    elif command == "needed":
        print(json.dumps(needed(arguments[0], arguments[1:])))
    elif command == "tag":
        abi = sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag
        machine = platform.machine()
        print(json.dumps(abi if machine in abi else f"{abi}-{machine}"))
    elif command == "pip":
        find_pip()
        sys.argv = ["pip", *arguments]
        runpy.run_module("pip", run_name="__main__", alter_sys=True)


main(*sys.argv[1:])
