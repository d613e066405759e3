"""What MkDocs is told beyond its configuration: files that lie outside its pages, and links that lead out of them."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# Where a page lies in the site, and where its text is.
OUTSIDE = {"n8n.md": "n8n/README.md", "changelog.md": "CHANGELOG.md"}
STYLE = "site.css"


def on_files(files: Files, *, config: Any) -> Files:
    """Take in the pages that lie where the repository needs them, and the site's own style."""
    for name, path in {**OUTSIDE, STYLE: f"docs/site/{STYLE}"}.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Let links lead to where their targets are in the site, as they do in the repository."""
    source = OUTSIDE.get(page.file.src_uri)
    if source is None:
        for name, path in OUTSIDE.items():
            markdown = markdown.replace(f"](../{path}", f"]({name}")
        return markdown
    ways = {"n8n/README.md": r"\]\(\.\./docs/", "CHANGELOG.md": r"\]\(docs/"}
    return re.sub(ways[source], "](", markdown)
