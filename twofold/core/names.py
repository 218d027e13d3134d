"""Names of classes, groups and slices: spellings that look the same are one name."""

import re
import unicodedata

from twofold.core.errors import INVISIBLE


def normalize_name(text: str) -> str:
    """Return a name in Unicode's form NFC, without characters that cannot be seen and without spaces at its ends."""
    return unicodedata.normalize("NFC", re.sub(r"[^\S\r\n]", " ", INVISIBLE.sub("", text))).strip()


def spelled(name: str) -> str:
    """Return a name in quotes; and once more with codes for its letters that are not ASCII and may look like others."""
    return repr(name) if name.isascii() else f"{name!r} ({name!a})"
