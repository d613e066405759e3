"""API keys: list, create, revoke. Needs a key for all tenants with the scope `operate`."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination
from reliability.api.common.serializers import NoFilters, Page, ProblemSerializer, ReasonRequest, SlugField, TextField
from reliability.api.common.views import PROBLEMS, View, of_all_tenants, read
from reliability.models import ApiKey, KeyScope
from reliability.setup import api_keys

KEY_FIELDS = ("id", "name", "prefix", "tenant", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at")


class KeyRequest(ReasonRequest):
    """A new key: without `tenant` for all tenants, without `scopes` with every scope."""

    name = TextField(max_length=200)
    tenant = SlugField(required=False, allow_null=True)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=KeyScope.choices), required=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class KeySerializer(serializers.Serializer[Any]):
    """A key without its secret; `prefix` is its first characters."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField()
    tenant = serializers.CharField(allow_null=True)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=KeyScope.choices))
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class NewKeySerializer(KeySerializer):
    """A new key with its plain text, which is shown only once."""

    key = serializers.CharField()


class KeyPage(Page):
    results = KeySerializer(many=True)


class Keys(View):
    scopes = {"GET": "operate", "POST": "operate"}

    @extend_schema(operation_id="list_api_keys", responses={200: KeyPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List API keys, newest first, without their secrets."""
        of_all_tenants(request, "list API keys")
        pagination.filters(request, NoFilters)
        return pagination.page(request, ApiKey.objects.all(), _representation)

    @extend_schema(operation_id="create_api_key", request=KeyRequest, responses={201: NewKeySerializer, **PROBLEMS})
    def post(self, request: Request) -> Response:
        """Create an API key, which can allow no more than the calling key. Only this answer has its plain text."""
        caller = of_all_tenants(request, "create API keys")
        values = read(request, KeyRequest)
        actor = caller.actor(values.pop("reason", ""))
        made = ApiKey(**{**values, "scopes": sorted(set(values.get("scopes", [])))})
        plain = api_keys.issue(key=made, actor=actor, now=caller.now, by=caller.key)
        return Response({**_representation(made), "key": plain}, status=201, headers={"Cache-Control": "no-store"})


class Revoke(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="revoke_api_key",
        request=ReasonRequest,
        responses={200: KeySerializer, 404: ProblemSerializer, **PROBLEMS},
    )
    def post(self, request: Request, key_id: UUID) -> Response:
        """Revoke an API key; it may be the calling key itself."""
        caller = of_all_tenants(request, "revoke API keys")
        api_keys.revoke(
            key_id=key_id, actor=caller.actor(read(request, ReasonRequest).get("reason", "")), now=caller.now
        )
        return Response(_representation(ApiKey.objects.get(pk=key_id)))


def _representation(one: ApiKey) -> dict[str, Any]:
    return {name: getattr(one, name) for name in KEY_FIELDS}
