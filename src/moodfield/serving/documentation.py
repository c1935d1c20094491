"""The documentation of the API as one HTML page, made from its OpenAPI description; it loads nothing."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, h3 { font-family: ui-monospace, monospace; }
h3 { margin: 2rem 0 0.25rem; font-size: 1rem; }
table { border-collapse: collapse; margin: 0.5rem 0; }
td { padding: 0.1rem 1rem 0.1rem 0; vertical-align: top; }
"""

Schema = Mapping[str, Any]


def html(title: str, body: str) -> str:
    """A page."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="docs.css"></head>'
        f"<body><h1>{escape(title)}</h1>{body}</body></html>"
    )


def page(openapi: Schema) -> str:
    """The page that describes an API."""
    info, groups = openapi["info"], dict[str, list[str]]()
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            group = (operation.get("tags") or ["service"])[0]
            groups.setdefault(group, []).append("".join(_operation(method, path, operation)))
    sections = [f"<h2>{escape(name.capitalize())}</h2>{''.join(parts)}" for name, parts in groups.items()]
    schemas = openapi.get("components", {}).get("schemas", {})
    models = "".join(_schema(name, schema) for name, schema in sorted(schemas.items()))
    intro = f"<p>{escape(info.get('description', ''))}</p><p>For programs: <a href='openapi.json'>openapi.json</a></p>"
    return html(f"{info['title']} {info['version']}", f"{intro}{''.join(sections)}<h2>Values</h2>{models}")


def _operation(method: str, path: str, operation: Schema) -> Iterator[str]:
    """The description of one operation."""
    yield f"<h3>{method.upper()} {escape(path)}</h3>"
    yield f"<p>{escape(operation.get('description', ''))}</p>"
    parameters = [
        (one["name"], one["in"], _type(one["schema"]), one.get("description", ""))
        for one in operation.get("parameters", [])
    ]
    content = operation.get("requestBody", {}).get("content", {})
    bodies = [(kind, "body", _type(value.get("schema", {})), "") for kind, value in content.items()]
    yield _table([*parameters, *bodies])
    answers = [
        (status, ", ".join(value.get("content", {})), value.get("description", ""))
        for status, value in sorted(operation["responses"].items())
    ]
    yield _table(answers)


def _schema(name: str, schema: Schema) -> str:
    """The description of a kind of values."""
    fields = [(key, _type(value), value.get("description", "")) for key, value in schema.get("properties", {}).items()]
    return f"<h3 id='{escape(name)}'>{escape(name)}</h3><p>{escape(schema.get('description', ''))}</p>{_table(fields)}"


def _type(schema: Schema) -> str:
    """The type of a value in words."""
    if reference := schema.get("$ref"):
        return str(reference).rpartition("/")[2]
    if options := schema.get("anyOf"):
        return " or ".join(_type(option) for option in options)
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return " | ".join(map(str, schema.get("enum", []))) or str(schema.get("type", "any"))


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{cell}</tr>' for cell in cells)}</table>" if rows else ""
