"""Failed sign-ins, as django-axes keeps them: under our own name, with a permission of its own."""

from axes.models import AccessAttempt


class FailedSignIn(AccessAttempt):  # type: ignore[misc]  # it comes without types
    """How often signing in failed, by name, address and browser. A success, or a lead's hand, forgets it."""

    class Meta:
        proxy = True
        verbose_name = "failed sign-in"
        permissions = [("unlock_failedsignin", "Can unlock sign-ins")]

    def __str__(self) -> str:
        return f"{self.username} from {self.ip_address}"
