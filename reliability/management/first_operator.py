"""The first operator of an installation."""

import secrets

from django.contrib.auth import get_user_model


def is_missing() -> bool:
    """Whether nobody can sign in yet: the installation is new."""
    return not get_user_model().objects.exists()


def ensure(*, username: str, password: str) -> str | None:
    """Make a superuser unless there is one already; return the password that was made up, if one was.

    With a `password` given, the user of that name gets it, so that a changed setting takes effect.
    """
    users = get_user_model().objects
    if not password and users.filter(is_superuser=True).exists():
        return None
    user, created = users.get_or_create(username=username, defaults={"is_staff": True, "is_superuser": True})
    if password:
        if created or not user.check_password(password):
            user.set_password(password)
            user.save()
        return None
    made_up = secrets.token_urlsafe(15)
    user.is_staff = user.is_superuser = user.is_active = True
    user.set_password(made_up)
    user.save()
    return made_up
