"""Removes known secrets from text before it is stored: as they are, and as JSON, URLs and HTML encode them."""

import base64
import binascii
import html
import re
from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import quote

from .classification import Reply

REDACTED = "[redacted]"
# A shorter secret would remove ordinary words from texts. As a whole header value, it is hidden from `WHOLE` characters
# on.
MINIMUM = 8
WHOLE = 4
# How many characters of a secret at the end of a cut text are enough to hide them.
CUT = 4
# Up to this many secrets are searched one by one. Of more, only those whose longest plain part starts like a part of
# the text: with a thousand workflows, each text would otherwise be searched a thousand times.
FEW = 64
START = 6
SCHEMES = ("bearer", "basic", "token", "apikey", "api-key")
API_KEY = re.compile(r"bsk_[A-Za-z0-9_-]{16,}")
_PLAIN = re.compile(r"[A-Za-z0-9]+")


class Redactor:
    """Hides a set of secrets. Create it once per set: that costs more than using it."""

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {form for secret in secrets for form in _forms(secret)}
        self._whole = frozenset(one for one in found if len(one) >= WHOLE)
        self._long = sorted((one for one in found if len(one) >= MINIMUM), key=len, reverse=True)
        self._sought = [(_core(one), one) for one in self._long]
        self._by_start: dict[str, list[tuple[str, str]]] = {}
        for core, one in self._sought:
            self._by_start.setdefault(core[:START] if len(core) >= START else "", []).append((core, one))
        self._patterns: dict[str, re.Pattern[str]] = {}

    def text(self, text: str, *, is_cut: bool = False) -> str:
        """Return `text` without the secrets. With `is_cut`, also without the start of one at its end."""
        for core, secret in self._candidates(text):
            if core in text:
                text = self._pattern(secret).sub(REDACTED, text)
        if "bsk_" in text:
            text = API_KEY.sub(REDACTED, text)
        return self._without_start(text) if is_cut else text

    def reply(self, reply: Reply, *, cut_at: int) -> Reply:
        """Return `reply` without the secrets; its body was cut if it has `cut_at` bytes."""
        headers = {
            name: REDACTED if value.strip() in self._whole else self.text(value)
            for name, value in reply.headers.items()
        }
        is_cut = len(reply.body) * 4 >= cut_at and len(reply.body.encode("utf-8", "replace")) >= cut_at
        body = self.text(reply.body, is_cut=is_cut)
        return replace(reply, headers=headers, body=body)

    def _candidates(self, text: str) -> list[tuple[str, str]]:
        """Return the secrets that may be in a text, the longest first."""
        # Longest first: a secret that contains another must not be left in half.
        if len(self._sought) <= FEW:
            return self._sought
        starts = {text[at : at + START] for at in range(len(text) - START + 1)} & self._by_start.keys()
        found = [one for start in ("", *starts) for one in self._by_start.get(start, ())]
        return sorted(found, key=lambda one: len(one[1]), reverse=True)

    def _pattern(self, secret: str) -> re.Pattern[str]:
        """Return a secret's pattern, compiled at its first use: most are never needed."""
        if secret not in self._patterns:
            self._patterns[secret] = re.compile("".join(map(_as_written, secret)))
        return self._patterns[secret]

    def _without_start(self, text: str) -> str:
        for secret in self._long:
            for length in range(len(secret) - 1, CUT - 1, -1):
                if text.endswith(secret[:length]):
                    return text[:-length] + REDACTED
        return text


def _forms(secret: str) -> Iterable[str]:
    """Yield a secret and its parts: the token after a scheme, and the name and password within Basic's base64."""
    yield secret
    scheme, _, token = secret.partition(" ")
    if not token or scheme.lower() not in SCHEMES:
        return
    yield token.strip()
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(token, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        yield pair
        yield pair.partition(":")[2]


def _core(secret: str) -> str:
    """Return the longest part that every encoding leaves as it is: a text without it cannot contain the secret."""
    return max(_PLAIN.findall(secret), key=len, default="")


def _as_written(character: str) -> str:
    """Return a pattern of the ways in which JSON (also nested), URLs and HTML encode a character."""
    if _PLAIN.fullmatch(character):
        return character
    ways = [r"\\{0,3}" + re.escape(character), "(?i:" + re.escape(quote(character, safe="")) + ")"]
    ways.append(rf"(?i:\\{{1,3}}u{ord(character):04x})" if ord(character) < 0x10000 else re.escape(character))
    ways += [re.escape(html.escape(character)), rf"&\#0*{ord(character)};"]
    if character == " ":
        ways.append(r"\+")
    return "(?:" + "|".join(ways) + ")"
