"""Every address that Backstop answers."""

from django.contrib import admin
from django.urls import include, path, re_path

from reliability import views
from reliability.api.stripe import webhook
from reliability.metrics.views import metrics
from reliability.models.fields import SLUG_PATTERN

admin.autodiscover()

urlpatterns = [
    path("", views.home),
    path("favicon.ico", views.favicon),
    path("healthz", views.healthz),
    path("readyz", views.readyz),
    path("admin/r/<path:rest>", views.nowhere),
    path("metrics", metrics, name="metrics"),
    path("admin/", admin.site.urls),
    path("api/", include("reliability.api.urls")),
    path("api/", include("scheduling.api")),
    re_path(rf"^stripe/webhook/(?P<slug>{SLUG_PATTERN})/?$", webhook.view),
    path("stripe/webhook/", webhook.view),
    path("", include("scheduling.urls")),
]
handler400 = views.bad_request
handler403 = views.forbidden
handler404 = views.not_found
handler500 = views.server_error
