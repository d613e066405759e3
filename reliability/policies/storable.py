"""Text as PostgreSQL can keep it. A JSON string may hold, as an escape, what its `text` cannot."""


def storable(text: str) -> str:
    """Put a replacement character in the place of each NUL and each half of a surrogate pair."""
    clean = text.replace("\x00", "�")
    return clean if clean.isascii() else clean.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
