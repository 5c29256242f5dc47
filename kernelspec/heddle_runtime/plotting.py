"""Chinese, Japanese and Korean text in matplotlib figures, without set-up.

matplotlib picks a font per glyph from the fonts that a text's families name.
Once matplotlib loads, `watch` adds a CJK font behind all of them: whatever
families, style sheets or rcParams a cell chooses, a glyph that they lack
comes from there. Nothing is imported before the user imports it.
"""

import functools
import importlib.util
import logging
import os
import sys

FONT_MANAGER = "matplotlib.font_manager"

# The package of the managed environment that carries Noto Sans CJK.
FONT_PACKAGE = "noto_cjk_sans_otc"
FONT_FILE = "NotoSansCJK-Regular.ttc"

# Families of that file by region; Han characters differ a little in shape.
REGIONS = {
    "ja": "Noto Sans CJK JP",
    "ko": "Noto Sans CJK KR",
    "zh_tw": "Noto Sans CJK TC",
    "zh_hk": "Noto Sans CJK HK",
    "zh": "Noto Sans CJK SC",
}

# What systems bring along. Some cover one script only, so every one counts.
SYSTEM_FAMILIES = (
    *("Noto Sans CJK " + region for region in ("SC", "TC", "HK", "JP", "KR")),
    *("Noto Sans SC", "Noto Sans TC", "Noto Sans JP", "Noto Sans KR"),
    *("Source Han Sans SC", "Source Han Sans CN", "Source Han Sans"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
    *("PingFang SC", "Hiragino Sans GB", "Hiragino Sans", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic", "NanumGothic"),
    "Arial Unicode MS",
)

# Families that plotting code names to get CJK text, usually the author's own
# system font. Where they are missing they mean the fallback, silently.
USUAL_FAMILIES = (
    *("SimHei", "SimSun", "Microsoft YaHei", "Microsoft JhengHei", "KaiTi", "FangSong"),
    *("PingFang SC", "PingFang TC", "PingFang HK", "Heiti SC", "Heiti TC", "STHeiti", "STSong"),
    *("Hiragino Sans GB", "Hiragino Sans", "Arial Unicode MS", "Songti SC"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
    *("Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans CJK JP", "Noto Sans CJK KR"),
    *("Noto Sans SC", "Noto Sans TC", "Noto Sans JP", "Noto Sans KR"),
    *("Source Han Sans SC", "Source Han Sans CN", "Source Han Sans TC", "Source Han Sans"),
    *("Yu Gothic", "Meiryo", "MS Gothic", "TakaoGothic", "IPAexGothic", "IPAGothic"),
    *("Malgun Gothic", "NanumGothic", "NanumBarunGothic", "AppleGothic", "Apple SD Gothic Neo"),
)

log = logging.getLogger(__name__)


class FontManagerWatch:
    """An import finder that waits for matplotlib's font manager, once."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != FONT_MANAGER:
            return None
        unwatch()
        spec = importlib.util.find_spec(fullname)
        if spec is not None:
            add_fallback_after(spec.loader)
        return spec


def watch():
    """Add the fallback now if matplotlib is loaded, else when it will be."""
    unwatch()
    loaded = sys.modules.get(FONT_MANAGER)
    # Half loaded, by another thread, it has no manager yet and is left alone.
    if hasattr(loaded, "fontManager"):
        add_fallback(loaded)
    elif loaded is None:
        sys.meta_path.insert(0, FontManagerWatch())


def unwatch():
    """Stop waiting; also takes away the finder of an earlier runtime."""
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if type(finder).__module__ != __name__
    ]


def add_fallback_after(loader):
    """Let `loader`, which serves this one module, call `add_fallback` at its end."""
    execute = loader.exec_module

    def exec_module(module):
        execute(module)
        add_fallback(module)

    try:
        loader.exec_module = exec_module
    except AttributeError:  # a loader without a __dict__: no fallback, no harm
        log.debug("cannot follow the import of %s", FONT_MANAGER)


def add_fallback(font_manager):
    """Register the fonts; whatever goes wrong, matplotlib works as before."""
    try:
        manager = font_manager.fontManager
        families = bundled_families(manager) or system_families(manager)
        if families:
            add_names(font_manager, families[0])
            append_to_every_search(font_manager, families)
    except Exception:
        log.debug("no fallback font", exc_info=True)


def bundled_families(manager):
    """The family of the bundled font that suits the user's locale, in a list."""
    spec = importlib.util.find_spec(FONT_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return []
    path = os.path.join(list(spec.submodule_search_locations)[0], FONT_FILE)
    if not os.path.isfile(path):
        return []
    if not any(entry.fname == path for entry in manager.ttflist):
        manager.addfont(path)
    names = {entry.name for entry in manager.ttflist if entry.fname == path}
    # matplotlib before 3.11 sees only the first face; its glyphs are as many.
    wanted = [preferred_family(), *REGIONS.values(), *sorted(names)]
    return [name for name in wanted if name in names][:1]


def preferred_family():
    """The bundled family for the locale of the environment."""
    variables = ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next(filter(None, map(os.environ.get, variables)), "").lower()
    return next((REGIONS[key] for key in REGIONS if locale.startswith(key)), REGIONS["zh"])


def system_families(manager):
    """The CJK families that matplotlib has found on this system."""
    names = {entry.name for entry in manager.ttflist}
    return [name for name in SYSTEM_FAMILIES if name in names]


def add_names(font_manager, family):
    """Let the usual family names that are not installed mean `family`."""
    manager = font_manager.fontManager
    present = {entry.name for entry in manager.ttflist}
    entry = next(entry for entry in manager.ttflist if entry.name == family)
    fields = {name: getattr(entry, name) for name in entry.__dataclass_fields__}
    for name in USUAL_FAMILIES:
        if name not in present:
            # Under both weights: asked for in bold, one weight would only warn.
            for weight in (400, 700):
                manager.ttflist.append(type(entry)(**{**fields, "name": name, "weight": weight}))
    manager._findfont_cached.cache_clear()  # names searched for in vain before


def append_to_every_search(font_manager, families):
    """Put `families` behind whatever fonts a text's own families find.

    The search itself is extended, not rcParams, because style sheets,
    `rcdefaults` and most plotting code replace those lists.
    """
    search = font_manager.FontManager._find_fonts_by_props
    search = getattr(search, "__wrapped__", search)  # of an earlier runtime
    fallback = [
        font_manager.fontManager.findfont(
            font_manager.FontProperties(family=[family]), fallback_to_default=False
        )
        for family in families
    ]

    @functools.wraps(search)
    def find_fonts(self, prop, fontext="ttf", *args, **kwargs):
        found = search(self, prop, fontext, *args, **kwargs)
        if fontext == "ttf":
            found = found + [font for font in fallback if font not in found]
        return found

    font_manager.FontManager._find_fonts_by_props = find_fonts
