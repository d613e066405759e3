"""Dead letters: how one is created, found, shown, replayed, purged and exported, and archived and restored."""
