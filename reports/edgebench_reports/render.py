"""Rendering: pages that hold everything they need, escape every string and may ask no network.

All code on a page is one constant script and two libraries. What comes from submissions is escaped
text or JSON in an inert element; the page's own policy forbids every other script and any request.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import vl_convert
from itables.utils import find_package_file
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

EMBED = "window.edgebenchEmbed = vegaEmbed;"
SHOWN_CHARACTERS = 2000  # record.Text
# vega compiles its expressions ('unsafe-eval') and the libraries are imported from blobs; both need
# a script that runs already, and only one script with the right hash does.
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: blob:; "
    "style-src 'unsafe-inline'; script-src '{hash}' 'unsafe-eval' blob:"
)
STILL_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
    "style-src 'unsafe-inline'"
)


def printable(value: object) -> str:
    """Show a stranger's text on a page: control and direction characters are made visible."""
    text = str(value)
    if not text.isprintable():  # the usual text is, and there are very many of them
        text = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


TEMPLATES = Environment(
    loader=PackageLoader("edgebench_reports"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=lambda value: printable(value) if type(value) is str else value,
)


def with_code(text: object) -> Markup:
    """Show what stands between backticks as code; a text whose backticks do not pair stays."""
    parts = printable(text).split("`")
    if len(parts) % 2 == 0:
        return Markup.escape("`".join(parts))
    forms = (Markup("{}"), Markup("<code>{}</code>"))
    return Markup().join(forms[place % 2].format(part) for place, part in enumerate(parts))


TEMPLATES.filters["with_code"] = with_code


def script_json(value: object) -> Markup:
    """Return JSON that no string inside can end a <script> element with."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  escaped above


def _packed(source: str) -> Markup:
    """Compress a library for an inert element; the same source gives the same bytes."""
    packed = gzip.compress(source.encode(), compresslevel=9, mtime=0)
    return Markup(base64.b64encode(packed).decode())  # noqa: S704  base64


def packed_json(value: object) -> Markup:
    """Return JSON, compressed for an inert element: of a table too long to be written out."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return _packed(text)


@cache
def chart_library() -> Markup:
    """Return Vega, Vega-Lite and vega-embed, packed."""
    return _packed(vl_convert.javascript_bundle(EMBED))


@cache
def table_library() -> Markup:
    """Return DataTables, packed."""
    return _packed(find_package_file("html/dt_bundle.js").read_text(encoding="utf-8"))


@cache
def _asset(name: str) -> str:
    return (files("edgebench_reports") / "templates" / name).read_text(encoding="utf-8")


def render(page: str, values: Mapping[str, Any]) -> str:
    """Fill the template `<page>.html.j2` with its style, its script and some values."""
    script = _asset(f"{page}.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return TEMPLATES.get_template(f"{page}.html.j2").render(
        policy=POLICY.format(hash=f"sha256-{digest}"),
        style=Markup(_asset(f"{page}.css")),  # noqa: S704  our own file
        script=Markup(script),  # noqa: S704  our own file
        chart_library=chart_library(),
        table_library=table_library(),
        **values,
    )


@cache
def _template(page: str) -> Template:
    return TEMPLATES.get_template(f"{page}.html.j2")


def render_still(page: str, values: Mapping[str, Any]) -> str:
    """Fill the template `<page>.html.j2` of a page without any script: its policy allows none."""
    return _template(page).render(
        policy=STILL_POLICY,
        style=Markup(_asset("still.css")),  # noqa: S704  our own file
        **values,
    )
