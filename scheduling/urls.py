"""The URLs of the cron endpoint."""

from django.urls import path, re_path

from . import views

WEEKLY_RECAP = {"job": "weekly-recap"}

urlpatterns = [
    re_path(r"^cron/(?P<job>[a-z0-9][a-z0-9-]{0,62})/$", views.cron, name="cron"),
    path("api/weekly-recap", views.cron, WEEKLY_RECAP, name="weekly-recap"),
    path("api/weekly-recap/", views.cron, WEEKLY_RECAP),
]
