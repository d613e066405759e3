"""The pages of docs/reference/, one module each: what is in the code, as Markdown."""
