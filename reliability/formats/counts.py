"""Counts in words, with the noun in the right number."""


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 delivery`, `1,200 deliveries`."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of a noun, by the regular rules of English."""
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
