"""Tables of pandas: aligned on the screen, and in short for a language model."""

import builtins
import sys

from .imports import harmless

MOST_COLUMNS = 60
HEAD_ROWS = 5


def describe_last():
    """`{"rows", "columns": {name: dtype}, "head": csv}`, or None when the last value is no pandas table."""
    pandas = sys.modules.get("pandas")
    value = getattr(builtins, "_", None)
    if pandas is None or not isinstance(value, pandas.DataFrame):
        return None
    shown = value.iloc[:HEAD_ROWS, :MOST_COLUMNS]
    columns = {str(name): str(dtype) for name, dtype in zip(shown.columns, shown.dtypes)}
    # A plain numbering says nothing; any other index is part of the data.
    index = not isinstance(value.index, pandas.RangeIndex)
    return {"rows": len(value), "columns": columns, "head": shown.to_csv(index=index)}


@harmless
def align_wide_characters(pandas):
    """Let printed tables give Chinese, Japanese and Korean characters their two columns."""
    pandas.set_option("display.unicode.east_asian_width", True)


ACTIONS = {"pandas": align_wide_characters}
