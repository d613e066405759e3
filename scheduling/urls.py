"""Where cron services come in."""

from django.urls import path, re_path

from . import views

urlpatterns = [
    re_path(r"^cron/(?:[a-z0-9][a-z0-9-]{0,62})/$", views.reachable, name="cron"),
    path("api/weekly-recap", views.reachable, name="weekly-recap"),
    path("api/weekly-recap/", views.reachable),
]
