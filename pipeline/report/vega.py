"""Vega-Lite without a network: its JavaScript to put into a page, and pictures of charts for Markdown.

Belongs here: what vl-convert does for us. Not here: charts (charts.py).
"""

import base64
import os
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from exfm.atomic_write import write_text
from exfm.writing import StateError


@cache
def javascript() -> str:
    """Vega, Vega-Lite and vega-embed as one script of 0.9 MB.

    To put it together takes 2-4 s, so it is kept in the user's cache folder, one file a version.
    """
    import vl_convert

    path = script_file()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
        for end in ("</script", "<!--"):  # in strings alone, where the backslash says nothing
            bundle = bundle.replace(end, f"<\\{end[1:]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, bundle)
    except (OSError, StateError):
        pass  # no home, or one that can't be written to: the next process takes as long
    return bundle


def script_file() -> Path:
    """Where ``javascript`` keeps its script."""
    return _cache_folder() / f"vega-{version('vl-convert-python')}.js"


def picture(spec: Mapping[str, Any], alternative: str) -> str:
    """A chart inside a text of Markdown, as SVG: smaller than a PNG, and sharp on any screen."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(dict(spec))
    return f"![{alternative}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _cache_folder() -> Path:
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if named else Path.home() / ".cache") / "exfm"
