"""What the docs site needs beside its pages: the pages at the top of the repository, and signatures of declarations.

Belongs here: a hook of MkDocs and an extension of griffe, both named in mkdocs.yml. Not here: text.
"""

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Show the pages at the top beside those of ``docs/``, with links that follow."""
    top = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        text = (top / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=re.sub(r"(?<=\]\()[^)#]+", _target, text)))
    return files


def _target(link: re.Match[str]) -> str:
    return PAGES.get(link[0], link[0].removeprefix("docs/"))


class Declarations(griffe.Extension):
    """``exfm.declaration.declaration`` makes dataclasses, so their pages show what a call takes."""

    def on_class_members(self, *, cls: griffe.Class, **others: Any) -> None:
        for decorator in cls.decorators:
            if isinstance(decorator.value, griffe.Expr) and decorator.value.canonical_path.endswith(".declaration"):
                keywords = griffe.ExprKeyword("kw_only", "True")
                decorator.value = griffe.ExprCall(griffe.ExprName("dataclasses.dataclass"), [keywords])
