"""Users and groups: Django's own screens in the console's theme, with a reason for each change."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from reliability.admin.common.reason_forms import AuditsChanges

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(AuditsChanges, DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]  # generic for the type checker alone
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def form_for(self, obj: Any) -> Any:
        return self.form if obj is not None else self.add_form


@admin.register(Group)
class GroupAdmin(AuditsChanges, DjangoGroupAdmin, ModelAdmin):
    """Groups and their permissions."""
