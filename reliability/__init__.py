"""Backstop's reliability core: policies, models, the pipeline and its interfaces."""

VERSION = "0.1.0"
