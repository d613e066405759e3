"""Fields that the models need beyond Django's own."""

import base64
import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

if TYPE_CHECKING:
    # Imported late: it takes six megabytes, which a process that reads no secret saves.
    from cryptography.fernet import MultiFernet

SLUG_PATTERN = r"[a-z0-9][a-z0-9-]{0,62}"
validate_slug = RegexValidator(
    rf"\A{SLUG_PATTERN}\Z", "A slug is 1 to 63 of a-z, 0-9 and '-', and does not start with '-'."
)


class SlugTextField(models.TextField):  # type: ignore[type-arg]  # generic for the type checker alone
    """A tenant's, a workflow's or a cron job's slug."""

    default_validators = [validate_slug]


@lru_cache(maxsize=4)
def _cipher(keys: tuple[str, ...]) -> "MultiFernet":
    from cryptography.fernet import Fernet, MultiFernet

    # Derived with a label of its own, so that the same SECRET_KEY never serves two purposes.
    derived = (hashlib.sha256(b"backstop.at-rest." + key.encode()).digest() for key in keys)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in derived])


def cipher() -> "MultiFernet":
    """Return the cipher for secrets at rest, keyed by `SECRET_KEY`; its fallbacks still decrypt."""
    return _cipher((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


def decrypted(value: str) -> str | None:
    """Decrypt a text; return `None` if no key in use decrypts it."""
    from cryptography.fernet import InvalidToken

    try:
        return cipher().decrypt(value.encode()).decode()
    except InvalidToken:
        return None


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]  # generic for the type checker alone
    """Text that is stored encrypted (Fernet); empty text stays empty.

    Reading a value that no key decrypts raises `ValidationError`, which names the field.
    """

    def get_prep_value(self, value: Any) -> Any:
        return cipher().encrypt(value.encode()).decode() if value else value

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        if not value:
            return value
        plain = decrypted(value)
        if plain is None:
            raise ValidationError(f"{self.name}: no SECRET_KEY in use decrypts this value")
        return plain
