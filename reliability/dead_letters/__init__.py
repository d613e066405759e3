"""Dead letters: creating, finding, showing, replaying, purging and exporting them; and their archive."""
