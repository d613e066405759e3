"""Backstop's reliability core: policies, models, the pipeline and its interfaces."""
