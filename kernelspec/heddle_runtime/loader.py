"""Makes modules out of the sources that Heddle sends.

Runs before the package exists: ``bootstrap.py`` executes this text by itself
and calls `install`. A real importer, so that tracebacks and `inspect` show
the source although there is no file.
"""

import importlib
import importlib.machinery
import sys

PACKAGE = "heddle_runtime"


class SourceLoader:
    """Finder and loader of the modules in `sources`, {module name: source}."""

    def __init__(self, sources):
        self.sources = sources

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self.sources:
            return None
        spec = importlib.machinery.ModuleSpec(
            fullname,
            self,
            origin=self.get_filename(fullname),
            is_package=self.is_package(fullname),
        )
        spec.has_location = True  # sets __file__, which `inspect` asks for
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        name = module.__name__
        exec(self.get_code(name), module.__dict__)

    def get_code(self, fullname):
        return compile(
            self.get_source(fullname), self.get_filename(fullname), "exec", dont_inherit=True
        )

    def get_source(self, fullname):
        try:
            return self.sources[fullname]
        except KeyError:
            raise ImportError("Heddle sent no module " + fullname, name=fullname) from None

    def get_filename(self, fullname):
        path = fullname.replace(".", "/")
        return path + ("/__init__.py" if self.is_package(fullname) else ".py")

    def is_package(self, fullname):
        return fullname == PACKAGE


def install(sources):
    """Make `heddle_runtime` importable and return it.

    A runtime with the same sources stays as it is; another one, left by a
    different version of Heddle, is replaced.
    """
    present = getattr(sys.modules.get(PACKAGE), "__loader__", None)
    if getattr(present, "sources", None) != sources:
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not present]
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]
        # First, so that a folder of that name beside the user's files is not it.
        sys.meta_path.insert(0, SourceLoader(sources))
    return importlib.import_module(PACKAGE)
