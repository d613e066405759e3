"""Screens of dead letters: the list, one on a page, edit and replay, export; and of archives."""
