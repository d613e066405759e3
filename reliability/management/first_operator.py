"""The first operator of an installation."""

import secrets

from django.contrib.auth import get_user_model


def is_missing() -> bool:
    """Whether no user exists yet, as in a new installation."""
    return not get_user_model().objects.exists()


def ensure(*, username: str, password: str) -> str | None:
    """Create a superuser unless one exists; return the generated password, if one was generated.

    With a `password`, the user of that name gets it, so that a changed ADMIN_PASSWORD takes effect.
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
    generated = secrets.token_urlsafe(15)
    user.is_staff = user.is_superuser = user.is_active = True
    user.set_password(generated)
    user.save()
    return generated
