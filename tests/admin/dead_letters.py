"""What the tests of dead letters share: who asks, and where."""

from django.contrib.auth.models import Group, User
from django.test import Client

LIST = "/admin/reliability/deadletter/"
NASTY = "</script><img src=x onerror=alert(1)>"
RTL = "\u202egnp.exe"


def signed_in(group: str | None = None) -> Client:
    user, _ = User.objects.get_or_create(
        username=f"someone-{group}", defaults={"is_staff": True, "is_superuser": group is None}
    )
    if group:
        user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


def page_of(letter) -> str:
    return f"{LIST}{letter.pk}/change/"


def act_of(letter, verb: str) -> str:
    return f"{LIST}{letter.pk}/{verb}/"
