"""How the OpenAPI document describes our authentication, our errors, and values of any kind."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework.serializers import JSONField

from .serializers import ProblemShape

PROBLEM = "application/problem+json"
WITH_BODY = ("POST", "PUT", "PATCH", "DELETE")


class Schema(AutoSchema):
    """Errors are problems: nothing at an address with a parameter (404), a body too large (413) or packed (415)."""

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        found = super()._get_response_bodies(direction)
        wherever = {"404": "{" in self.path, "413": self.method in WITH_BODY, "415": self.method in WITH_BODY}
        for code in (code for code, may_be in wherever.items() if may_be and code not in found):
            found[code] = self._get_response_for_code(ProblemShape, code, None, direction)
        return dict(sorted(found.items()))

    def _get_response_for_code(
        self, serializer: Any, status_code: str, media_types: Any = None, direction: Any = "response"
    ) -> Any:
        types = [PROBLEM] if status_code >= "400" else media_types
        untyped: Any = super()
        return untyped._get_response_for_code(serializer, status_code, types, direction)

    def _map_serializer_field(self, field: Any, direction: Any, bypass_extensions: bool = False) -> Any:
        """Any JSON value may be null already: "any value, or null" would have null fit two branches."""
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
