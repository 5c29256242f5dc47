"""Chinese, Japanese and Korean text in matplotlib figures, without set-up.

matplotlib picks a font per glyph from the fonts that a text's families name.
Once matplotlib loads, a CJK font stands behind all of them: whatever
families, style sheets or rcParams a cell chooses, a glyph that they lack
comes from there, also in a text with a formula.
"""

import functools
import importlib.util
import os
import sys
import unicodedata

from .imports import harmless

FONT_MANAGER = "matplotlib.font_manager"
MATHTEXT = "matplotlib._mathtext"

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


@harmless
def add_fallback(font_manager):
    """Register the fonts and put them behind every search."""
    manager = font_manager.fontManager
    families = bundled_families(manager) or system_families(manager)
    if families:
        add_names(font_manager, families[0])
        append_to_every_search(font_manager, families)


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
    # Any of them that tells: Python itself may have set LC_CTYPE to C.UTF-8.
    for variable in ("LC_ALL", "LC_CTYPE", "LANG"):
        for language, family in REGIONS.items():
            if os.environ.get(variable, "").lower().startswith(language):
                return family
    return REGIONS["zh"]


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


@harmless
def add_math_fallback(mathtext):
    """Let a text with a formula use every font of its families, not the first only."""
    get_glyph = mathtext.UnicodeFonts._get_glyph
    get_glyph = getattr(get_glyph, "__wrapped__", get_glyph)

    @functools.wraps(get_glyph)
    def find_glyph(self, fontname, font_class, symbol):
        # Wide are the characters of these scripts; formulas have none.
        if len(symbol) == 1 and unicodedata.east_asian_width(symbol) in "WF":
            manager = sys.modules[FONT_MANAGER].fontManager
            for path in manager._find_fonts_by_props(self.default_font_prop):
                font = mathtext.get_font(path)
                if font.get_char_index(ord(symbol)):
                    return font, ord(symbol), False
        return get_glyph(self, fontname, font_class, symbol)

    mathtext.UnicodeFonts._get_glyph = find_glyph


ACTIONS = {FONT_MANAGER: add_fallback, MATHTEXT: add_math_fallback}
