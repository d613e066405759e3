"""Failed sign-ins, stored by django-axes; a proxy model with a name and a permission of its own."""

from axes.models import AccessAttempt


class FailedSignIn(AccessAttempt):  # type: ignore[misc]  # it comes without types
    """Failed sign-ins by user name, address and browser. A successful sign-in, or an unlock, resets them."""

    class Meta:
        proxy = True
        verbose_name = "failed sign-in"
        permissions = [("unlock_failedsignin", "Can unlock sign-ins")]

    def __str__(self) -> str:
        return f"{self.username} from {self.ip_address}"
