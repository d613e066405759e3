"""Parses request bodies: with a size limit, strictly, and keeping the original text of the payload."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser

from reliability.errors import InvalidInput, PayloadTooLarge
from reliability.formats import lenient_json, strict_json


class Document(dict[str, Any]):
    """A JSON object, with the original text of each member."""

    def __init__(self, value: Mapping[str, Any], members: Mapping[str, str]) -> None:
        super().__init__(value)
        self.members = members


def document_of(body: bytes, *, unsound: bool = False) -> Document:
    """Parse a body. Raises `InvalidInput` if it is not a valid JSON object; `unsound` allows any strings."""
    text = strict_json.text_of(body)
    value = strict_json.load(text, unsound=unsound)
    if not isinstance(value, dict):
        raise InvalidInput("The body is not a JSON object.")
    return Document(value, strict_json.members(text))


class LenientJSONParser(BaseParser):
    """Parses reports that nobody sends again, as far as possible; a value that is no object becomes `body`."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        """Raises `PayloadTooLarge`, and `InvalidInput` if the body is not JSON."""
        value = lenient_json.load(_read(stream, parser_context["request"]))
        if isinstance(value, list) and len(value) == 1:  # n8n may send a list with one item
            value = value[0]
        return value if isinstance(value, dict) else {"body": value}


class FailureParser(BaseParser):
    """Parses a failure with a payload: the payload as strictly as a delivery's, other strings leniently."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Document:
        """Raises `PayloadTooLarge`, and `InvalidInput` if the body or its payload is invalid."""
        found = document_of(_read(stream, parser_context["request"]), unsound=True)
        if "payload" in found.members:
            strict_json.load(found.members["payload"])
        return found


class StrictJSONParser(BaseParser):
    """Parses a body as JSON, whatever its content type: the API has no other format."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Document:
        """Raises `PayloadTooLarge`, and `InvalidInput` if the body is not a valid JSON object."""
        return document_of(_read(stream, parser_context["request"]))


def _read(stream: Any, request: Any) -> bytes:
    limit = settings.MAX_BODY_BYTES
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        length = 0
    if length <= limit:
        body: bytes = stream.read(limit + 1)
        if len(body) <= limit:
            return body
    raise PayloadTooLarge(f"The body is larger than {limit:,} bytes.")


class AlwaysJSON(BaseContentNegotiation):
    """Ignores `Content-Type` and `Accept`: everything is JSON."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type
