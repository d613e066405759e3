"""The URLs of the API."""

from django.urls import path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from .alerts import alerts
from .bulk import operations
from .dead_letters import dead_letters
from .delivery import breakers, deliveries, guards, workflows
from .n8n import executions
from .setup import api_keys
from .stats import status
from .stripe import endpoints

READ = ["get", "head"]

urlpatterns = [
    path("v1/deliveries/", deliveries.Deliveries.as_view()),
    path("v1/deliveries/batch/", deliveries.Batch.as_view()),
    path("v1/deliveries/<uuid:delivery_id>/", deliveries.OneDelivery.as_view()),
    path("v1/deliveries/<uuid:delivery_id>/cancel/", deliveries.Cancel.as_view()),
    path("v1/deliveries/<uuid:delivery_id>/send-now/", deliveries.SendNow.as_view()),
    path("v1/dead-letters/", dead_letters.DeadLetters.as_view()),
    path("v1/dead-letters/replay/", dead_letters.ReplayMany.as_view()),
    path("v1/dead-letters/purge/", dead_letters.PurgeMany.as_view()),
    path("v1/dead-letters/<uuid:dead_letter_id>/", dead_letters.OneDeadLetter.as_view()),
    path("v1/dead-letters/<uuid:dead_letter_id>/replay/", dead_letters.Replay.as_view()),
    path("v1/dead-letters/<uuid:dead_letter_id>/undo-purge/", dead_letters.UndoPurge.as_view()),
    path("v1/batches/", operations.Operations.as_view()),
    path("v1/batches/<uuid:batch_id>/", operations.OneOperation.as_view()),
    path("v1/batches/<uuid:batch_id>/pause/", operations.Pause.as_view()),
    path("v1/batches/<uuid:batch_id>/resume/", operations.Resume.as_view()),
    path("v1/batches/<uuid:batch_id>/cancel/", operations.Cancel.as_view()),
    path("v1/batches/<uuid:batch_id>/rate/", operations.Rate.as_view()),
    path("v1/batches/<uuid:batch_id>/undo/", operations.Undo.as_view()),
    path("v1/workflows/", workflows.Workflows.as_view()),
    path("v1/workflows/<slug:workflow>/", workflows.OneWorkflow.as_view()),
    path("v1/workflows/<slug:workflow>/secrets/", workflows.Secrets.as_view()),
    path("v1/workflows/<slug:workflow>/pause/", workflows.Pause.as_view()),
    path("v1/workflows/<slug:workflow>/resume/", workflows.Resume.as_view()),
    path("v1/breakers/", breakers.Breakers.as_view()),
    path("v1/breakers/permit/", guards.Permit.as_view()),
    path("v1/breakers/<uuid:breaker_id>/reset/", breakers.Reset.as_view()),
    path("v1/breakers/<uuid:breaker_id>/force-open/", breakers.ForceOpen.as_view()),
    path("v1/slots/", guards.Slots.as_view()),
    path("v1/slots/<uuid:slot_id>/", guards.OneSlot.as_view()),
    path("v1/stripe-events/claim/", guards.Claim.as_view()),
    path("v1/stripe-events/<str:claim>/complete/", guards.Complete.as_view()),
    path("v1/stripe-events/<str:claim>/fail/", guards.Fail.as_view()),
    path("v1/stripe-endpoints/", endpoints.Endpoints.as_view()),
    path("v1/stripe-endpoints/<slug:endpoint>/", endpoints.OneEndpoint.as_view()),
    path("v1/stripe-endpoints/<slug:endpoint>/secrets/", endpoints.Secrets.as_view()),
    path(
        "v1/stripe-endpoints/<slug:endpoint>/secrets/<uuid:secret_id>/retire/",
        endpoints.RetireSecret.as_view(),
    ),
    path("v1/api-keys/", api_keys.Keys.as_view()),
    path("v1/api-keys/<uuid:key_id>/revoke/", api_keys.Revoke.as_view()),
    path("v1/alerts/", alerts.Alerts.as_view()),
    path("v1/alerts/<uuid:alert_id>/", alerts.OneAlert.as_view()),
    path("v1/alerts/<uuid:alert_id>/acknowledge/", alerts.Acknowledge.as_view()),
    path("v1/alert-silences/", alerts.Silences.as_view()),
    path("v1/alert-silences/<uuid:silence_id>/end/", alerts.EndSilence.as_view()),
    path("v1/status/", status.Status.as_view()),
    path("v1/flags/", status.Flags.as_view()),
    path("v1/flags/<slug:name>/", status.OneFlag.as_view()),
    path("v1/executions/", executions.Executions.as_view()),
    path("v1/executions/failed/", executions.FailedExecutions.as_view()),
    path("v1/deliveries/<uuid:delivery_id>/outcome/", executions.Outcome.as_view()),
    path("schema/", SpectacularJSONAPIView.as_view(http_method_names=READ), name="schema"),
    path("docs/", SpectacularSwaggerSplitView.as_view(url_name="schema", http_method_names=READ), name="docs"),
]
