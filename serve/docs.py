"""The OpenAPI document as a page for a person, without scripts from elsewhere."""

import json
from html import escape
from typing import Any


def docs_page(schema: dict[str, Any]) -> str:
    """The page, as HTML."""
    parts = []
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            replies = "".join(
                f"<li><code>{escape(status)}</code> {escape(reply.get('description', ''))}</li>"
                for status, reply in operation.get("responses", {}).items()
            )
            parts.append(
                f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
                f"<p>{escape(operation.get('description', ''))}</p><ul>{replies}</ul>"
            )
    shapes = escape(json.dumps(schema.get("components", {}).get("schemas", {}), indent=1))
    style = (
        "body{font:16px/1.5 system-ui;max-width:48rem;margin:2rem auto;padding:0 1rem;"
        "color-scheme:light dark}code,pre{font:14px ui-monospace,monospace}pre{overflow:auto}"
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Switchyard API</title>"
        f"<style>{style}</style><h1>Switchyard API</h1><p>The same as a machine reads it: "
        f"<a href=openapi.json>openapi.json</a></p>{''.join(parts)}<h2>Shapes</h2>"
        f"<pre>{shapes}</pre></html>"
    )
