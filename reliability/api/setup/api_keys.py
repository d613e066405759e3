"""API keys: list, make, revoke. For keys without a tenant, with the scope `operate`."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination
from reliability.api.common.serializers import Page, ProblemShape, ReasonRequest, SlugField, Strict, TextField
from reliability.api.common.views import PROBLEMS, View, of_all_tenants, read
from reliability.models import ApiKey, KeyScope
from reliability.setup import api_keys

KEY_FIELDS = ("id", "name", "prefix", "tenant", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at")


class KeyRequest(ReasonRequest):
    """A new key: without a tenant it is for all of them, without scopes for everything."""

    name = TextField(max_length=200)
    tenant = SlugField(required=False, allow_null=True)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=KeyScope.choices), required=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class KeyShape(serializers.Serializer[Any]):
    """A key, without its secret; `prefix` is how it begins."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField()
    tenant = serializers.CharField(allow_null=True)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=KeyScope.choices))
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class NewKeyShape(KeyShape):
    """A new key with its plain text, which is shown this once."""

    key = serializers.CharField()


class KeyPage(Page):
    results = KeyShape(many=True)


class NoFilters(Strict):
    """A list without filters."""


class Keys(View):
    scopes = {"GET": "operate", "POST": "operate"}

    @extend_schema(operation_id="list_api_keys", responses={200: KeyPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List the keys, the newest first, without their secrets."""
        of_all_tenants(request, "see the keys of all")
        pagination.filters(request, NoFilters)
        return pagination.page(request, ApiKey.objects.all(), _shape)

    @extend_schema(operation_id="create_api_key", request=KeyRequest, responses={201: NewKeyShape, **PROBLEMS})
    def post(self, request: Request) -> Response:
        """Make a key, which opens no more than the one that makes it. Its plain text is in this answer alone."""
        who = of_all_tenants(request, "make keys")
        values = read(request, KeyRequest)
        actor = who.actor(values.pop("reason", ""))
        made = ApiKey(**{**values, "scopes": sorted(set(values.get("scopes", [])))})
        plain = api_keys.issue(key=made, actor=actor, now=who.now, by=who.key)
        return Response({**_shape(made), "key": plain}, status=201, headers={"Cache-Control": "no-store"})


class Revoke(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="revoke_api_key", request=ReasonRequest, responses={200: KeyShape, 404: ProblemShape, **PROBLEMS}
    )
    def post(self, request: Request, key_id: UUID) -> Response:
        """Refuse a key from now on; the one that asks may be it."""
        who = of_all_tenants(request, "revoke keys")
        api_keys.revoke(key_id=key_id, actor=who.actor(read(request, ReasonRequest).get("reason", "")), now=who.now)
        return Response(_shape(ApiKey.objects.get(pk=key_id)))


def _shape(one: ApiKey) -> dict[str, Any]:
    return {name: getattr(one, name) for name in KEY_FIELDS}
