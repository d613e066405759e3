"""What the templates of the console call."""
