"""MkDocs hooks: pages whose files are outside `docs/`, and links between them and the other pages."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# The name of a page in the site, and its file.
OUTSIDE = {
    "n8n.md": "n8n/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}
STYLE = "site.css"


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages outside `docs/`, and the site's own style."""
    for name, path in {**OUTSIDE, STYLE: f"docs/site/{STYLE}"}.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Rewrite links between `docs/` and the pages outside it to their places in the site."""
    source = OUTSIDE.get(page.file.src_uri)
    if source is not None:
        up = "../" * source.count("/")
        return re.sub(rf"\]\({re.escape(up)}docs/", "](", markdown)
    up = "../" * page.file.src_uri.count("/")
    for name, path in OUTSIDE.items():
        markdown = markdown.replace(f"](../{up}{path}", f"]({up}{name}")
    return markdown
