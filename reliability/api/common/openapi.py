"""Extensions of the OpenAPI document: authentication, errors, and arbitrary JSON values."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework.serializers import JSONField

from .serializers import ProblemSerializer

PROBLEM = "application/problem+json"
WITH_BODY = ("POST", "PUT", "PATCH", "DELETE")


class Schema(AutoSchema):
    """Adds the errors that any view can return: 404 for a path with a parameter; 413 and 415 for a request body."""

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        found = super()._get_response_bodies(direction)
        wherever = {"404": "{" in self.path, "413": self.method in WITH_BODY, "415": self.method in WITH_BODY}
        for code in (code for code, may_be in wherever.items() if may_be and code not in found):
            found[code] = self._get_response_for_code(ProblemSerializer, code, None, direction)
        return dict(sorted(found.items()))

    def _get_response_for_code(
        self, serializer: Any, status_code: str, media_types: Any = None, direction: Any = "response"
    ) -> Any:
        types = [PROBLEM] if status_code >= "400" else media_types
        untyped: Any = super()
        return untyped._get_response_for_code(serializer, status_code, types, direction)

    def _map_serializer_field(self, field: Any, direction: Any, bypass_extensions: bool = False) -> Any:
        """Drop the union with null: null is a JSON value already, and would match two branches of `oneOf`."""
        untyped: Any = super()
        found = untyped._map_serializer_field(field, direction, bypass_extensions)
        if isinstance(field, JSONField):
            return {name: value for name, value in found.items() if name not in ("oneOf", "anyOf")}
        return found


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # the library's metaclass has no types
    target_class = "reliability.api.common.authentication.KeyAuthentication"
    name = ["bearer", "header"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:
        return [
            {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer <key>`"},
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        ]
