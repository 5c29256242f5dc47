"""The user's variables: names, types, shapes and short forms.

Describing must not run the user's code, take long or copy data: nothing here
calls `repr` on an object, or reads an attribute through a class, that a cell
defined. Of objects from libraries it reads only the attributes in `facts`.
"""

import sys
import time
import types

from .short import class_signature, clip, function_signature, is_a, module_of, name_of, short

MAX_VARIABLES = 100
MAX_COLUMNS = 50
MAX_SECONDS = 0.25


def describe_namespace():
    """What the user has bound, in the order of definition.

    Gives ``{"variables": [entry, ...], "omitted": count}``. An entry has
    ``name``, ``type``, ``summary`` and, where they apply, ``shape`` (list of
    int), ``dtype``, ``columns`` ({name: dtype}) and ``signature``. The newest
    `MAX_VARIABLES` are described, as many as fit in `MAX_SECONDS`.
    """
    bound = user_variables()
    deadline = time.monotonic() + MAX_SECONDS
    described = []
    for name, value in reversed(bound[-MAX_VARIABLES:]):
        if time.monotonic() > deadline:
            break
        described.append(describe(name, value))
    described.reverse()
    return {"variables": described, "omitted": len(bound) - len(described)}


def user_variables():
    """(name, value) of what the user bound in the interactive namespace."""
    shell = interactive_shell()
    if shell is None:
        return []
    # IPython's own record of what was there before the first cell.
    hidden = shell.user_ns_hidden
    return [
        (name, value)
        for name, value in shell.user_ns.copy().items()
        if is_a(name, str)
        and not name.startswith("_")
        and not (name in hidden and hidden[name] is value)
        and is_users_own(value)
    ]


def interactive_shell():
    """IPython's shell, or None outside of IPython."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def is_users_own(value):
    """False for modules, and for functions and classes that were imported."""
    if is_a(value, types.FunctionType):
        return value.__module__ == "__main__"
    if is_a(value, type):
        return module_of(value) == "__main__"
    return not is_a(value, types.ModuleType, types.BuiltinFunctionType)


def describe(name, value):
    """One entry of the list; a value that cannot be described says so."""
    entry = {"name": clip(name, 100)}
    try:
        entry["type"] = clip(name_of(type(value)), 100)
        entry.update(facts(value))
    except Exception as error:
        entry.setdefault("type", "object")
        entry["summary"] = "<not described: %s>" % clip(name_of(type(error)))
    return entry


def facts(value):
    """The fields of an entry that depend on the kind of value."""
    if is_a(value, types.FunctionType):
        return {"signature": function_signature(value), "summary": first_line(value.__doc__)}
    if is_a(value, type):
        doc = type.__getattribute__(value, "__doc__")
        return {"signature": class_signature(value), "summary": first_line(doc)}
    found = {}
    if module_of(type(value)) not in ("__main__", "builtins"):
        found.update(array_facts(value))
    found["summary"] = clip(short(value))
    return found


def array_facts(value):
    """Shape, dtype and columns of the arrays and frames of any library.

    Read where the class has them, so that a proxy with a `__getattr__` of its
    own (a mock, a remote object) is not asked.
    """
    kind = type(value)
    found = {}
    shape = value.shape if hasattr(kind, "shape") else None
    if isinstance(shape, tuple) and all(hasattr(type(size), "__index__") for size in shape):
        found["shape"] = [int(size) for size in shape[:32]]
    if hasattr(kind, "dtype"):
        found["dtype"] = clip(str(value.dtype), 60)
    if hasattr(kind, "columns") and hasattr(kind, "dtypes"):
        # pandas: narrowed first, since a frame can have a million columns.
        frame = value.iloc[:, :MAX_COLUMNS] if hasattr(kind, "iloc") else value
        pairs = list(zip(frame.columns, frame.dtypes))[:MAX_COLUMNS]
        found["columns"] = {label(name): clip(str(dtype), 60) for name, dtype in pairs}
    return found


def label(name):
    """A column's name as a key."""
    return clip(name if is_a(name, str) else short(name), 60)


def first_line(doc):
    return clip(doc.strip().partition("\n")[0]) if is_a(doc, str) else ""
