"""What the console's screens share: lists, pages, confirmation, search, status texts."""
