"""Set-up by an operator: API keys, workflow secrets, sign-ins, encryption; and `doctor`, which checks all of it."""
