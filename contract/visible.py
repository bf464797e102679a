"""Text of others on a terminal: what would move the cursor, turn the direction or not be seen is written out."""

from __future__ import annotations

import unicodedata

# Categories of Unicode that are not seen where they stand: controls, formats (bidi, zero width), lone halves,
# private and unassigned characters, line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Blank or without a width, although their category does not say so (Default_Ignorable_Code_Point, and blanks).
_BLANK = frozenset(
    [
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
        *range(0x180B, 0x1810),
        *range(0xFE00, 0xFE10),
        *range(0xE0100, 0xE01F0),
    ]
)


def visible(text: str) -> str:
    r"""`text` with `\x1b`, `\n`, `\u202e` and the like for characters that a reader would not see."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(it) if _unseen(it) else it for it in text)


def quoted(text: str) -> str:
    r"""`text` in quotation marks, as `visible` and so that no two texts look the same to a program: `\` is doubled."""
    return "'" + visible(text.replace("\\", "\\\\").replace("'", "\\'")) + "'"


def spelt(text: str) -> str:
    """As `quoted`, with every character outside ASCII written out."""
    return "'" + "".join(it if it.isascii() else _escaped(it) for it in quoted(text)[1:-1]) + "'"


def look_alike(one: str, other: str) -> bool:
    """Whether two texts may look the same on a screen: but for letters outside ASCII, or how they are composed."""
    if unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other):
        return True
    return len(one) == len(other) and all(
        a == b or not (a.isascii() and b.isascii()) for a, b in zip(one, other, strict=True)
    )


def _unseen(letter: str) -> bool:
    category = unicodedata.category(letter)
    blank = category == "Zs" and letter != " "
    return blank or category in _UNSEEN or ord(letter) in _BLANK


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode()
