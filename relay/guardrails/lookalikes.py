"""Letters that look like small Latin ones, by hand after Unicode TR 39 (confusables).

Case is folded before, so small shapes decide: capital Eta and Nu of Greek, which look like H and N,
are folded as their small letters, which look like n and v. In the languages of these scripts the
folding is the same on both sides, so terms in them are found as well.
"""

from __future__ import annotations

from typing import Final

_ALIKE: Final = {
    "a": "аαɑᴀ",
    "b": "вьʙβƅ",
    "c": "сϲᴄⅽ",
    "d": "ԁᴅɗ",
    "e": "еєεᴇҽ",
    "f": "ꜰғƒ",
    "g": "ɡɢցԍ",
    "h": "һнʜհ",
    "i": "іιıɪɩ",
    "j": "јϳᴊ",
    "k": "кκᴋ",
    "l": "ӏʟⅼ",
    "m": "мᴍⅿ",
    "n": "ηոɴпƞ",
    "o": "оοσօᴏ",
    "p": "рρᴘ",
    "q": "ԛզ",
    "r": "ʀгɾ",
    "s": "ѕꜱʂ",
    "t": "тτᴛ",
    "u": "υսᴜʋ",
    "v": "νѵᴠ",
    "w": "ԝωᴡѡ",
    "x": "хχⅹ",
    "y": "уүʏγ",
    "z": "ᴢʐ",
}


def _squares() -> dict[str, str]:
    """Letters in black circles and squares, which have no compatibility form."""
    return {chr(first + at): chr(ord("a") + at) for first in (0x1F150, 0x1F170) for at in range(26)}


LOOKALIKES: Final = {
    alike: letter for letter, many in _ALIKE.items() for alike in many if not alike.isascii()
} | _squares()
"""Character, its case folded -> the small Latin letter."""
