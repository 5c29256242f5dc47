"""Short forms of values, bounded in length, time and memory.

In the manner of `reprlib`, but for values that may be hostile: methods of the
built-in types are called on the type itself, so that a subclass made in a
cell cannot answer in its place, and `isinstance` is not used, because it asks
the object for `__class__`.
"""

import collections
import datetime
import decimal
import enum
import inspect
import pathlib
import types
import uuid

MAX_CHARACTERS = 200
MAX_TEXT = 80
MAX_ITEMS = 6
MAX_DEPTH = 3
MAX_INT_BITS = 512

# Types whose own repr is short.
PLAIN = (
    *(bool, float, complex, type(None), type(Ellipsis), type(NotImplemented), range, slice),
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
    *(decimal.Decimal, uuid.UUID, pathlib.PurePath),
)
TEXTS = (str, bytes, bytearray)
BRACKETS = {list: "[]", tuple: "()", set: "{}", frozenset: "{}", collections.deque: "[]"}


def clip(text, length=MAX_CHARACTERS):
    """`text` on one line of at most `length` printable characters."""
    # Lone surrogates, which no message can carry, are not printable either.
    line = "".join(c if c.isprintable() else " " for c in text[: length + 1])
    return line if len(line) <= length else line[: length - 1] + "…"


def is_a(value, *kinds):
    return issubclass(type(value), kinds)


def name_of(kind):
    return type.__getattribute__(kind, "__name__")


def module_of(kind):
    return type.__getattribute__(kind, "__module__")


def short(value, depth=MAX_DEPTH):
    """A short form of `value`; `depth` levels of nested values are opened."""
    kind = type(value)
    if is_a(value, enum.Enum):
        return "%s.%s" % (name_of(kind), object.__getattribute__(value, "_name_"))
    base = base_among(TEXTS, value)
    if base:
        return short_text(value, base)
    if module_of(kind) == "numpy":
        return short_numpy(value, depth)
    base = base_among(PLAIN, value)
    if base:
        return (base if module_of(kind) == "__main__" else kind).__repr__(value)
    if is_a(value, int):
        bits = int.bit_length(value)
        return int.__repr__(value) if bits <= MAX_INT_BITS else "int of %d bits" % bits
    base = base_among(BRACKETS, value)
    if base:
        return short_collection(value, base, depth)
    if is_a(value, dict):
        return short_dict(value, depth)
    if is_a(value, type):
        return "<class %s>" % name_of(value)
    if is_a(value, types.FunctionType):
        return "<function %s>" % value.__name__
    module = module_of(kind)
    if module.partition(".")[0] == "pandas":
        return short_pandas(value, depth)
    if module == "__main__":
        return short_instance(value, depth)
    return "<%s>" % name_of(kind) if module == "builtins" else "<%s.%s>" % (module, name_of(kind))


def base_among(bases, value):
    return next((base for base in bases if is_a(value, base)), None)


def short_text(value, base):
    length = base.__len__(value)
    head = repr(base.__getitem__(value, slice(MAX_TEXT)))
    if length <= MAX_TEXT:
        return head
    return "%s… (%d %s)" % (head, length, "characters" if base is str else "bytes")


def short_collection(value, base, depth):
    if depth == 0:
        return "…"
    items = [short(item, depth - 1) for _, item in zip(range(MAX_ITEMS), base.__iter__(value))]
    length = base.__len__(value)
    opening, closing = BRACKETS[base]
    if base is tuple and length == 1:
        closing = ",)"
    text = opening + joined(items, length) + closing
    if base is set and length == 0:
        text = "set()"
    return with_kind(value, (list, tuple, set), text, length)


def short_dict(value, depth):
    if depth == 0:
        return "{…}"
    items = [
        "%s: %s" % (short(key, depth - 1), short(item, depth - 1))
        for _, (key, item) in zip(range(MAX_ITEMS), dict.items(value))
    ]
    length = dict.__len__(value)
    return with_kind(value, (dict,), "{" + joined(items, length) + "}", length)


def joined(items, length):
    """`items` separated by commas, with a sign where there are more."""
    more = ["…"] if length > len(items) else []
    return ", ".join([clip(item, MAX_TEXT) for item in items] + more)


def with_kind(value, evident, text, length):
    """`text` with the class and the length where it does not show them."""
    if type(value) not in evident:
        text = "%s(%s)" % (name_of(type(value)), text)
    return text if length <= MAX_ITEMS else "%d items: %s" % (length, text)


def short_numpy(value, depth):
    if hasattr(value, "dtype") and not hasattr(value, "__array_finalize__"):  # a scalar
        return "<numpy void>" if name_of(type(value)) == "void" else str(value)
    if not hasattr(value, "flat"):
        return "<numpy %s>" % name_of(type(value))
    return short_elements(value.flat[:MAX_ITEMS].tolist(), value.size, depth)


def short_elements(elements, size, depth):
    if depth == 0:
        return "…"
    return "[%s]" % joined([short(element, depth - 1) for element in elements], size)


def short_pandas(value, depth):
    kind = type(value)
    if name_of(kind) in ("Timestamp", "Timedelta", "Period", "Interval", "NaTType", "NAType"):
        return str(value)
    if hasattr(kind, "iloc") and hasattr(kind, "columns"):
        rows, columns = value.shape
        names = [name if is_a(name, str) else short(name, 1) for name in value.columns[:MAX_ITEMS]]
        return "%d rows × %d columns: %s" % (rows, columns, joined(names, columns))
    if hasattr(kind, "iloc") and hasattr(kind, "dtype"):
        elements = short_elements(value.iloc[:MAX_ITEMS].tolist(), len(value), depth)
        return elements if value.name is None else "%s: %s" % (short(value.name, 1), elements)
    if name_of(kind).endswith("Index"):
        return short_elements(value[:MAX_ITEMS].tolist(), len(value), depth)
    return "<pandas %s>" % name_of(kind)


def short_instance(value, depth):
    """Class and attributes of an object whose class a cell defined."""
    name = name_of(type(value))
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:  # __slots__
        return "<%s object>" % name
    if depth == 0:
        return name + "(…)"
    fields = [
        "%s=%s" % (field, short(item, depth - 1))
        for _, (field, item) in zip(range(MAX_ITEMS), dict.items(attributes))
    ]
    return "%s(%s)" % (name, joined(fields, len(attributes)))


def function_signature(function):
    """The parameters as they are written, defaults in their short form."""
    return clip("(%s)" % ", ".join(written(parameters_of(function))))


def class_signature(kind):
    """The parameters of `__init__`, without the instance."""
    for base in type.mro(kind):
        init = type.__getattribute__(base, "__dict__").get("__init__")
        if is_a(init, types.FunctionType):
            return clip("(%s)" % ", ".join(written(parameters_of(init)[1:])))
    return "()"


def parameters_of(function):
    return list(inspect.signature(function, follow_wrapped=False).parameters.values())


def written(parameters):
    """Parameters in source form, with the bare `/` and `*` between them."""
    kinds = inspect.Parameter
    texts, previous = [], None
    for parameter in parameters:
        if previous is kinds.POSITIONAL_ONLY and parameter.kind is not kinds.POSITIONAL_ONLY:
            texts.append("/")
        if parameter.kind is kinds.KEYWORD_ONLY and previous not in (
            kinds.VAR_POSITIONAL,
            kinds.KEYWORD_ONLY,
        ):
            texts.append("*")
        texts.append(written_parameter(parameter))
        previous = parameter.kind
    return texts + ["/"] * (previous is kinds.POSITIONAL_ONLY)


def written_parameter(parameter):
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
    text = stars.get(parameter.kind, "") + parameter.name
    if parameter.annotation is not parameter.empty:
        # Other annotations are objects with a repr of their own.
        if is_a(parameter.annotation, str):
            text += ": " + parameter.annotation
        elif type(parameter.annotation) is type:
            text += ": " + name_of(parameter.annotation)
    if parameter.default is not parameter.empty:
        text += (" = " if ": " in text else "=") + short(parameter.default)
    return text
