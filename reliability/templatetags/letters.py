"""What the pages of dead letters show of strangers' text."""

from urllib.parse import urlsplit

from django import template
from django.utils.safestring import SafeString, mark_safe

from reliability.formats import json_text

register = template.Library()


@register.filter
def plain_text(text: str) -> SafeString:
    """Show text that anybody may have written: escaped, cut, and with what cannot be seen made visible."""
    cut = text[: json_text.LIMIT] + ("…" if len(text) > json_text.LIMIT else "")
    return mark_safe(json_text.plain(cut))  # noqa: S308  # `plain` escapes


@register.filter
def web_address(text: str) -> str:
    """Return an address that a link may lead to, or nothing: whoever reports an execution names its address."""
    try:
        return text if urlsplit(text).scheme in ("http", "https") else ""
    except ValueError:
        return ""
