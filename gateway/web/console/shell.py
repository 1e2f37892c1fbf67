"""What every page is made of: its template, its headers, its files."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import jinja2
from starlette.requests import Request
from starlette.responses import Response

from gateway import __version__
from gateway.config import ServerSettings
from gateway.core.errors import Forbidden, NotFound, TooLarge
from gateway.web.browser_session import PAGE_HEADERS
from gateway.web.context import read_body

MAX_TYPED_BYTES: Final = 16 * 1024
HERE: Final = Path(__file__).parent
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, auto_reload=False
)


async def static(request: Request) -> Response:
    """A script, a style sheet or a picture; the browser asks each time whether it changed."""
    content, kind, tag = _file(request.path_params["name"])
    headers = {name: value for name, value in PAGE_HEADERS if name != "Cache-Control"}
    headers |= {"Cache-Control": "no-cache", "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers={**headers, "Content-Type": kind})


@lru_cache(maxsize=64)
def _file(name: str) -> tuple[bytes, str, str]:
    """One of our own files. Raises NotFound: a name is looked up among them, never opened."""
    known = {path.name: path for path in (HERE / "static").iterdir()}
    path = known.get(name)
    if path is None or path.suffix not in TYPES:
        raise NotFound("there is no such file of the console", code="unknown_path")
    content = path.read_bytes()
    return content, TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:20]}"'


def page(name: str, status: int = 200, **values: Any) -> Response:
    """The template of this name, filled in."""
    shown = _templates.get_template(f"{name}.html").render(version=__version__, **values)
    return answered(Response(shown, status, media_type="text/html; charset=utf-8"))


def answered(response: Response) -> Response:
    """With the headers that every page has."""
    for name, value in PAGE_HEADERS:
        response.headers[name] = value
    return response


async def typed(request: Request, server: ServerSettings) -> bytes:
    """What a form of ours sends, before anybody is known. Raises TooLarge: taking 32 MiB of fields
    apart held up everybody for eight seconds."""
    body = await read_body(request, server)
    if len(body) > MAX_TYPED_BYTES:
        raise TooLarge(f"a form has {MAX_TYPED_BYTES} bytes at most", code="body_too_large")
    return body


def is_secure(request: Request) -> bool:
    """Whether the browser came by TLS, to us or to a proxy before us."""
    return request.url.scheme == "https" or (
        request.headers.get("x-forwarded-proto", "").split(",")[0].strip() == "https"
    )


def same_site(request: Request) -> None:
    """Nobody is signed in by another site's form. Raises Forbidden."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin", "")
    host = request.headers.get("host", "").lower()
    # Without Sec-Fetch-Site (older browsers) the Origin must say so; programs send neither.
    ours = site in ("same-origin", "none") if site else origin.partition("://")[2].lower() == host
    if not ours and (site or origin):
        raise Forbidden("sign in from the gateway's own page", code="csrf")
