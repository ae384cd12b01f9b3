"""report.html: one file that needs no other, from report.json's numbers and the gallery."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from training.report import drawings, wording
from training.report.gallery import Picture

TEMPLATES = Path(__file__).parent / "templates"
PAGE_FILE = "report.html"


def environment(*, escape: bool) -> Environment:
    """Templates of this folder with the filters of `wording`; a name that is missing is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "interval": wording.with_interval,
        "number": wording.number,
        "megabytes": wording.megabytes,
        "embed": embed,
    }
    made.globals |= {"headline": wording.headline, "AUDITED": wording.AUDITED, "zip": zip}
    return made


def embed(data: bytes, kind: str) -> str:
    """A data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def page(report: dict[str, Any], gallery: dict[str, list[Picture]]) -> str:
    """The whole page as HTML."""
    template = environment(escape=True).get_template("report.html.j2")
    style = (TEMPLATES / "style.css").read_text()
    return template.render(report=report, gallery=gallery, figures=drawings.drawings(report), style=style)
