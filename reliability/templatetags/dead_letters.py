"""Filters for text from outside on the pages of dead letters."""

from urllib.parse import urlsplit

from django import template
from django.utils.safestring import SafeString, mark_safe

from reliability.formats import json_text

register = template.Library()


@register.filter
def plain_text(text: str) -> SafeString:
    """Show text from outside: escaped, cut, and with invisible characters made visible."""
    cut = text[: json_text.LIMIT] + ("…" if len(text) > json_text.LIMIT else "")
    return mark_safe(json_text.plain(cut))  # noqa: S308  # `plain` escapes


@register.filter
def web_address(text: str) -> str:
    """Return a URL if it is safe to link to (http or https), else an empty string: reporters choose this URL."""
    try:
        return text if urlsplit(text).scheme in ("http", "https") else ""
    except ValueError:
        return ""
