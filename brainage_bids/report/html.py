"""Write one self-contained HTML page: templates, number formats and embedded pictures.

Text is always escaped, because participant labels, group names and file names come from the data. Pictures are embedded
in the page; it loads nothing from the internet.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape
from PIL import Image, UnidentifiedImageError

from brainage_bids.bids.files import write_text
from brainage_bids.errors import BadDataError

NOT_AVAILABLE = "n/a"
MINUS = "\u2212"
_LOSSY_QUALITY = 88
_MADE_FROM = re.compile(rb'<meta name="made-from" content="(\w+)">')
_HEADING = re.compile(r"#{1,6}\s+(.*)")


def number(value: Any) -> float | None:
    """Return a cell as a finite float, or None when it is missing, text or not finite."""
    if value is None or isinstance(value, bool):
        return None
    try:
        result = float(value)
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def text(value: Any) -> str:
    """Return a cell as text; a missing one (None, NaN, empty, ``n/a``) gives ``n/a``. The text ``None`` is kept."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOT_AVAILABLE
    if isinstance(value, float):
        return f"{value:g}".replace("-", MINUS, 1) if value < 0 else f"{value:g}"
    cell = str(value).strip()
    return NOT_AVAILABLE if cell.lower() in {"", "n/a", "nan", "<na>", "nat", "inf", "-inf"} else cell


def decimals(value: Any, places: int = 2, sign: bool = False) -> str:
    """Return a number with fixed decimals (``-0.00`` becomes ``0.00``), ``n/a`` when missing; ``sign`` shows a plus."""
    given = number(value)
    if given is None:
        return NOT_AVAILABLE
    body = f"{abs(given):.{places}f}"
    if float(body) == 0:
        return body
    return (MINUS if given < 0 else "+" if sign else "") + body


def p_value(value: Any) -> str:
    """Return a p (or q) value with 3 significant digits, ``<0.001`` below that."""
    given = number(value)
    if given is None:
        return NOT_AVAILABLE
    return "<0.001" if given < 0.001 else f"{given:#.3g}".rstrip(".")


def count(value: Any) -> str:
    """Return a whole number with thin spaces between thousands."""
    given = number(value)
    return NOT_AVAILABLE if given is None else f"{round(given):,}".replace(",", "\u202f").replace("-", MINUS)


def interval(low: Any, high: Any, places: int = 2, sign: bool = False) -> str:
    """Return ``low to high``, or ``n/a`` when an end is missing."""
    if number(low) is None or number(high) is None:
        return NOT_AVAILABLE
    return f"{decimals(low, places, sign)} to {decimals(high, places, sign)}"


def paragraphs(source: str) -> Markup:
    """Turn plain text into escaped HTML: blank lines end paragraphs, ``#`` starts a heading, ``-`` a list item."""
    parts = []
    for block in re.split(r"\n\s*\n", str(source or "").strip()):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        while lines and (heading := _HEADING.match(lines[0])):
            parts.append(Markup("<h4>{}</h4>").format(heading.group(1)))
            lines.pop(0)
        if lines and all(line.startswith("- ") for line in lines):
            items = Markup("").join(Markup("<li>{}</li>").format(line[2:]) for line in lines)
            parts.append(Markup("<ul>{}</ul>").format(items))
        elif lines:
            parts.append(Markup("<p>{}</p>").format(" ".join(lines)))
    return Markup("\n").join(parts)


def embed_image(source: str | Path | Image.Image, lossless: bool = False, max_width: int = 1800) -> Markup:
    """Return a picture as a WebP data URI.

    Parameters
    ----------
    source
        A picture, or its file.
    lossless
        True for plots (flat colours stay sharp and small), False for pictures of brains.
    max_width
        Wider pictures are shrunk to this many pixels.

    Raises
    ------
    BadDataError
        When the picture cannot be read.
    """
    picture = source if isinstance(source, Image.Image) else _read_picture(source)
    if picture.width > max_width:
        height = max(1, round(picture.height * max_width / picture.width))
        picture = picture.resize((max_width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # method 4 would halve the size of a plot, but take ten times as long: a sixth of the time of a large study's page
    settings = {"lossless": True, "method": 0} if lossless else {"quality": _LOSSY_QUALITY, "method": 2}
    picture.save(buffer, "WEBP", **settings)
    return Markup("data:image/webp;base64,") + base64.b64encode(buffer.getvalue()).decode("ascii")


def embed_png(path: Path) -> Markup:
    """Return a PNG file as a data URI, as it is."""
    return Markup("data:image/png;base64,") + base64.b64encode(path.read_bytes()).decode("ascii")


def _read_picture(path: str | Path) -> Image.Image:
    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise BadDataError(f"{path} cannot be read as a picture ({error}); write it again or leave it out") from error


def address(path: str | Path, folder: str | Path) -> str:
    """Return the address of a file relative to a page in ``folder``."""
    return quote(Path(os.path.relpath(path, folder)).as_posix())


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill one of the packaged templates. An unknown name in the template is an error, never an empty string."""
    return _environment().get_template(template).render(**values)


def write_page(path: str | Path, template: str, values: Mapping[str, Any], made_from: str = "") -> Path:
    """Fill a template and write it atomically; ``made_from`` is stored in the page for `made_from_of`.

    Raises
    ------
    CannotCreateError
        When the folder of ``path`` cannot be written.
    """
    return write_text(path, render(template, {"made_from": made_from, **values}))


def content_hash(page: Any, origin: Any = None) -> str:
    """Return a hash of the content of a page (a dataclass), for `write_page`.

    The command, the software versions and the folders of files are not part of it. Of pictures only the file names
    are, so ``origin`` must identify their content.
    """
    values = {**vars(page)}
    for name in ("command", "software", "made_from"):
        values.pop(name, None)
    content = json.dumps([values, origin], sort_keys=True, default=_hashed)
    return hashlib.sha256(content.encode(errors="backslashreplace")).hexdigest()[:32]


def _hashed(value: Any) -> Any:
    """Return a form that JSON can store: the fields of a dataclass, the name of a file, or the text of a value."""
    return vars(value) if dataclasses.is_dataclass(value) else getattr(value, "name", str(value))


def made_from_of(path: str | Path) -> str | None:
    """Return the hash of what a page was made from; None if the page does not exist or has no hash."""
    try:
        with open(path, "rb") as stream:
            match = _MADE_FROM.search(stream.read(2000))
    except OSError:
        return None
    return match[1].decode() if match else None


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("brainage_bids.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        text=text,
        years=decimals,
        signed=lambda value: decimals(value, 2, sign=True),
        decimals=decimals,
        p=p_value,
        count=count,
        paragraphs=paragraphs,
        sortkey=_sort_key,
    )
    environment.globals.update(interval=interval)
    return environment


def _sort_key(value: Any) -> str:
    """Return the value by which a column is sorted: the full number, or the text."""
    given = number(value)
    return "" if text(value) == NOT_AVAILABLE else repr(given) if given is not None else str(escape(text(value)))
