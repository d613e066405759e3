"""What an operator sets up: API keys, secrets of workflows, sign-ins, encryption; and `doctor`, which
examines it all.
"""
