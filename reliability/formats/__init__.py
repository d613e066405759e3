"""How data is read and written: pure functions and values, without Django, input or output, or a clock.

`strict_json` and `lenient_json` read request bodies, `storable` makes text that PostgreSQL can store, `canonical_json`
gives equal values equal text. `json_text` shows JSON to people, `counts` words counts. `archive_format` is the file
format of the archive.
"""
