"""Stripe endpoints and their signing secrets. Needs a key for all tenants; no answer contains a secret."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from reliability.api.common import pagination
from reliability.api.common.serializers import NoFilters, Page, ProblemSerializer, ReasonRequest, SlugField, TextField
from reliability.api.common.views import PROBLEMS, View, of_all_tenants, read
from reliability.errors import InvalidInput, NotFound
from reliability.models import StripeEndpoint, StripeMode, StripeSecret
from reliability.stripe import endpoints

SECRET_FIELDS = ("id", "hint", "active", "created_at", "retired_at")


class EndpointChange(ReasonRequest):
    """The fields to change; `api_key` is stored encrypted, and an empty value removes it."""

    tenant = SlugField(required=False)
    mode = serializers.ChoiceField(choices=StripeMode.choices, required=False)
    account = TextField(required=False, allow_blank=True, max_length=255)
    api_key = TextField(required=False, allow_blank=True, max_length=300, write_only=True)
    enabled = serializers.BooleanField(required=False)


class EndpointRequest(EndpointChange):
    """A new endpoint: Stripe posts to `/stripe/webhook/<slug>/`."""

    slug = SlugField()


class SecretRequest(ReasonRequest):
    secret = TextField(max_length=200, write_only=True)


class SecretSerializer(serializers.Serializer[Any]):
    """A signing secret, by its last four characters."""

    id = serializers.UUIDField()
    hint = serializers.CharField()
    active = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    retired_at = serializers.DateTimeField(allow_null=True)


class EndpointSerializer(serializers.Serializer[Any]):
    """An endpoint with its secrets; `has_api_key` says whether an API key is set."""

    endpoint = serializers.CharField()
    tenant = serializers.CharField()
    mode = serializers.ChoiceField(choices=StripeMode.choices)
    account = serializers.CharField()
    enabled = serializers.BooleanField()
    has_api_key = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    secrets = SecretSerializer(many=True)


class EndpointPage(Page):
    results = EndpointSerializer(many=True)


ACTED = {200: EndpointSerializer, 404: ProblemSerializer, **PROBLEMS}


class Endpoints(View):
    scopes = {"GET": "operate", "POST": "operate"}

    @extend_schema(operation_id="list_stripe_endpoints", responses={200: EndpointPage, **PROBLEMS})
    def get(self, request: Request) -> Response:
        """List Stripe endpoints."""
        of_all_tenants(request, "read Stripe endpoints")
        pagination.filters(request, NoFilters)
        return pagination.page(request, StripeEndpoint.objects.prefetch_related("secrets"), _representation)

    @extend_schema(
        operation_id="create_stripe_endpoint", request=EndpointRequest, responses={201: EndpointSerializer, **PROBLEMS}
    )
    def post(self, request: Request) -> Response:
        """Create a Stripe endpoint. It refuses every event until it has a signing secret."""
        caller = of_all_tenants(request, "create Stripe endpoints")
        values = read(request, EndpointRequest)
        actor = caller.actor(values.pop("reason", ""))
        made = endpoints.create(endpoint=StripeEndpoint(**values), actor=actor, now=caller.now)
        return Response(_representation(made), status=201)


class OneEndpoint(View):
    scopes = {"GET": "operate", "PATCH": "operate"}

    @extend_schema(operation_id="get_stripe_endpoint", responses=ACTED)
    def get(self, request: Request, endpoint: str) -> Response:
        """Get a Stripe endpoint."""
        of_all_tenants(request, "read Stripe endpoints")
        return Response(_representation(_named(endpoint)))

    @extend_schema(operation_id="change_stripe_endpoint", request=EndpointChange, responses=ACTED)
    def patch(self, request: Request, endpoint: str) -> Response:
        """Change the given fields of a Stripe endpoint; the others keep their values."""
        caller = of_all_tenants(request, "change Stripe endpoints")
        values = read(request, EndpointChange)
        actor = caller.actor(values.pop("reason", ""))
        if not values:
            raise InvalidInput("No field to change. Give at least one.")
        found = _named(endpoint)
        return Response(
            _representation(endpoints.change(endpoint_id=found.pk, values=values, actor=actor, now=caller.now))
        )


class Secrets(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="add_stripe_secret",
        request=SecretRequest,
        responses={201: SecretSerializer, 404: ProblemSerializer, **PROBLEMS},
    )
    def post(self, request: Request, endpoint: str) -> Response:
        """Add a signing secret: the endpoint then also accepts events signed with it."""
        caller = of_all_tenants(request, "add signing secrets")
        values = read(request, SecretRequest)
        actor, found = caller.actor(values.get("reason", "")), _named(endpoint)
        made = endpoints.add_secret(endpoint_id=found.pk, secret=values["secret"], actor=actor, now=caller.now)
        return Response(_secret(made), status=201)


class RetireSecret(View):
    scopes = {"POST": "operate"}

    @extend_schema(
        operation_id="retire_stripe_secret",
        request=ReasonRequest,
        responses={200: SecretSerializer, 404: ProblemSerializer, **PROBLEMS},
    )
    def post(self, request: Request, endpoint: str, secret_id: UUID) -> Response:
        """Retire a signing secret: the endpoint then refuses events signed with it."""
        caller = of_all_tenants(request, "retire signing secrets")
        actor = caller.actor(read(request, ReasonRequest).get("reason", ""))
        if not StripeSecret.objects.filter(pk=secret_id, endpoint__slug=endpoint).exists():
            raise NotFound("The endpoint has no such secret.")
        endpoints.retire_secret(secret_id=secret_id, actor=actor, now=caller.now)
        return Response(_secret(StripeSecret.objects.get(pk=secret_id)))


def _named(slug: str) -> StripeEndpoint:
    found = StripeEndpoint.objects.filter(slug=slug).first()
    if found is None:
        raise NotFound("There is no such Stripe endpoint.")
    return found


def _representation(one: StripeEndpoint) -> dict[str, Any]:
    return {
        "endpoint": one.slug,
        "tenant": one.tenant,
        "mode": one.mode,
        "account": one.account,
        "enabled": one.enabled,
        "has_api_key": bool(one.api_key),
        "created_at": one.created_at,
        "secrets": [_secret(secret) for secret in one.secrets.all()],
    }


def _secret(one: StripeSecret) -> dict[str, Any]:
    return {name: getattr(one, name) for name in SECRET_FIELDS}
