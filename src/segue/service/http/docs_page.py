"""The OpenAPI document as a page that loads nothing, from here or elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any


def docs_page(document: dict[str, Any]) -> str:
    """HTML without styles of its own: every route, what it takes and what it answers."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{escape(info['title'])}</title><link rel=stylesheet href=/web/shared/style.css>",
        f"<main><h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info.get('description', ''))}</p>",
        "<p>For machines: <a href=/openapi.json>openapi.json</a></p>",
    ]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            parts.append(_route(method, path, route))
    parts.append("<h2>Schemas</h2>")
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        parts.append(f"<h3 id='{escape(name)}'>{escape(name)}</h3>{_code(schema)}")
    return "".join(parts) + "</main></html>"


def _route(method: str, path: str, route: dict[str, Any]) -> str:
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>",
        f"<p>{escape(route.get('description', ''))}</p>",
    ]
    for parameter in route.get("parameters", ()):
        parts.append(f"<p><code>{escape(parameter['name'])}</code> ({parameter['in']})</p>")
    body = route.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        parts.append(f"<details><summary>body</summary>{_code(body['schema'])}</details>")
    answers = "".join(_answer(status, found) for status, found in route["responses"].items())
    return "".join(parts) + f"<ul>{answers}</ul>"


def _answer(status: str, answer: dict[str, Any]) -> str:
    reference = answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref")
    name = reference.rpartition("/")[2] if reference else ""
    link = f" <a href='#{escape(name)}'>{escape(name)}</a>" if name else ""
    return f"<li>{status}: {escape(answer.get('description', ''))}{link}</li>"


def _code(value: Any) -> str:
    return f"<pre class=wide>{escape(json.dumps(value, indent=2))}</pre>"
