"""Pure decisions: no database, no input or output, no clock and no randomness of their own."""
