"""How data is read and written: strict, lenient and canonical JSON, JSON for people, and the lines of an archive.

Pure functions and values: no Django, no input or output, no clock.
"""
