"""The blocks and the inline code of the documents, and what kind each is of."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "docs" / "reference"

# The programs of the documents' shell: those that the tests run, and those that they cannot.
RUN = re.findall(
    r"\S+",
    """
    manage.py .venv/bin/python python3 curl jq openssl pg_dump pg_restore createdb dropdb psql . alias cat cd cp date
    diff echo export for grep gunzip gzip head if kill ls mkdir mv printf rm sha256sum sleep tar test touch true unset
    until wc while zcat
    """,
)
NOT_RUN = re.findall(
    r"\S+",
    """
    make git n8n docker docker-compose kubectl kubeconform systemctl journalctl systemd-analyze sudo granian
    .venv/bin/granian gunicorn pip .venv/bin/pip promtool prometheus apt apt-get hadolint crontab useradd install chown
    chmod pgbench pgbouncer ssh rsync
    """,
)
PROGRAMS = (*RUN, *NOT_RUN)

# What a fence may call itself, and the kind that makes it.
FENCES = {
    **dict.fromkeys(("sh", "bash", "shell"), "shell"),
    "console": "console",
    "json": "json",
    "python": "python",
    "py": "python",
    "http": "http",
    **dict.fromkeys(("yaml", "yml"), "yaml"),
    "crontab": "crontab",
    "promql": "promql",
    "sql": "sql",
    "text": "text",
    "drawing": "text",
    **dict.fromkeys(("ini", "systemd"), "ini"),
    **dict.fromkeys(("nginx", "caddy", "dockerfile", "conf", "logql"), "other"),
}
# How a block without a name begins.
BEGINNINGS = [
    ("text", r".*[►◄▲▼─│]"),
    ("console", r"\$ "),
    ("usage", r"manage\.py \S+.*\[--"),
    ("crontab", r"(?:[A-Z_]+=\S+\n)?(?:[\d*/,-]+ +){4}"),
    ("http", r"(?:GET|HEAD|POST|PUT|PATCH|DELETE) (?:/|\{\{)"),
    ("expression", r"\{\{"),
    ("ini", r"\[[\w.-]+\]\n"),
    ("json", r"[{\[]"),
    ("yaml", r"[A-Za-z][\w.-]*:(?: *\n| +[\[{\w\"])"),
    ("sql", r"(?:SELECT|ALTER|CREATE|SHOW|SET)\b"),
    ("promql", r"(?:sum|rate|max|min|histogram_quantile|increase|avg|count)\b.*\("),
    (
        "shell",
        rf"(?:#.*\n)*(?:[A-Z0-9_]+=[^\s$]* )*(?:[A-Z0-9_]+=\$\()?(?:{'|'.join(map(re.escape, PROGRAMS))})(?=\s|$)",
    ),
]


@dataclass(frozen=True)
class Block:
    """A code block: where it begins, its kind (`""`: unknown) and its text."""

    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.kind})"


def pages() -> list[Path]:
    """Return the documents whose blocks are run: all but those that are written from the code."""
    found = [path for path in sorted((ROOT / "docs").rglob("*.md")) if GENERATED not in path.parents]
    return [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "n8n/README.md")), *found]


@cache
def tokens(path: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))


def blocks(path: Path) -> list[Block]:
    """Return a document's blocks, in their order."""
    page = str(path.relative_to(ROOT))
    return [
        Block(page, one.map[0] + 1, kind_of(one.info, one.content), one.content)
        for one in tokens(path)
        if one.type in ("fence", "code_block")
    ]


def kind_of(info: str, text: str) -> str:
    """Return what kind a block is of: by its fence's name, else by how it begins."""
    if info.strip():
        return FENCES.get(info.split(maxsplit=1)[0].lower(), "")
    return next((kind for kind, beginning in BEGINNINGS if re.match(beginning, text.lstrip(" "))), "")


def inline_code(path: Path) -> list[tuple[int, str]]:
    """Return the code within a document's sentences, with the line where its paragraph begins."""
    return [
        (one.map[0] + 1, child.content)
        for one in tokens(path)
        if one.type == "inline" and one.map
        for child in one.children or []
        if child.type == "code_inline"
    ]


def links(path: Path) -> list[str]:
    """Return where a document's links and pictures lead, those in its HTML included."""
    found = []
    for one in tokens(path):
        for child in [one, *(one.children or [])]:
            if child.type in ("link_open", "image"):
                found.append(str(child.attrs.get("href") or child.attrs.get("src")))
            elif child.type.startswith("html"):
                found += re.findall(r'(?:src|srcset|href)="([^"]+)"', child.content)
    return found


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as Markdown's own table of contents names them."""
    found = set()
    every = tokens(path)
    for at, one in enumerate(every):
        if one.type == "heading_open":
            title = every[at + 1].content
            named = re.search(r"\{#([\w-]+)\}", title)
            plain = re.sub(r"[`*]|\{#.*", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title))
            found.add(named[1] if named else re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", plain.lower()).strip()))
    return found
