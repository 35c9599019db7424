"""Writes the reference page of a kind as Markdown."""

from __future__ import annotations

import json

import schema

KUBERNETES_REFERENCE = "https://kubernetes.io/docs/reference/kubernetes-api/"


def file_name(kind: schema.Kind) -> str:
    return f"{kind.name.lower()}.md"


def render(group: schema.Group, kind: schema.Kind) -> str:
    lines = [
        f"<!-- Generated from api/{group.folder}/ by tools/generate/generate.py. Do not edit. -->",
        f"# {kind.name}", "", kind.description, "",
        f"- API version: `{group.name}/{group.version}`",
        f"- Scope: {'cluster' if kind.scope == 'Cluster' else 'namespace'}",
        f"- Names for kubectl: {', '.join(f'`{name}`' for name in [kind.plural, kind.name.lower(), *kind.short_names])}",
    ]
    if kind.categories:
        lines.append(f"- Categories: {', '.join(f'`{name}`' for name in kind.categories)}")
    lines.append(f"- Subresources: {', '.join(f'`{name}`' for name in kind.subresources)}")
    lines += ["", *_columns(kind), *_rules(kind.rules)]
    lines += ["| field | type | meaning |", "|---|---|---|"]
    lines += [f"| `spec` | {_type(group, {'$ref': '#/' + kind.spec})} | {_description(group, kind.spec)} |"]
    lines += [f"| `status` | {_type(group, {'$ref': '#/' + kind.status})} | {_description(group, kind.status)} |", ""]
    for name in schema.reachable(group, [kind.spec, kind.status]):
        definition = group.definitions[name]
        if "properties" in definition and schema.upstream_ref(definition) is None:
            lines += _section(group, name, definition)
    return "\n".join(lines).rstrip() + "\n"


def _columns(kind: schema.Kind) -> list[str]:
    lines = ["Columns of `kubectl get`; those marked are shown with `-o wide`:", "", "| column | meaning |", "|---|---|"]
    for column in kind.printer_columns:
        mark = " (wide)" if column.get("priority") else ""
        lines.append(f"| {column['name']}{mark} | {_cell(column['description'])} |")
    return [*lines, ""]


def _description(group: schema.Group, name: str) -> str:
    return _cell(group.definitions[name].get("description", ""))


def _section(group: schema.Group, name: str, definition: dict) -> list[str]:
    lines = [f"## {name}", "", definition["description"], ""]
    if "inline" in definition:
        lines += [f"Beside the fields below it has those of {_upstream_link(definition['inline'])}.", ""]
    lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
    required = definition.get("required", [])
    for field_name, field in definition["properties"].items():
        full = schema.resolve(group, field)
        default = "required" if field_name in required else _default(full)
        lines.append(f"| `{field_name}` | {_type(group, field)} | {default} | {_meaning(group, full)} |")
    lines.append("")
    rules = list(definition.get("rules", []))
    for field in definition["properties"].values():
        full = schema.resolve(group, field)
        own_section = schema.struct_name(group, field) is not None
        rules += [] if own_section else full.get("rules", [])
        items = full.get("items", {})
        if items and schema.struct_name(group, items) is None:
            rules += schema.resolve(group, items).get("rules", [])
    return lines + _rules(rules)


def _rules(rules: list[dict]) -> list[str]:
    messages = list(dict.fromkeys(rule["message"] for rule in rules))
    return ["Refused with:", "", *[f"- {message}" for message in messages], ""] if messages else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(node: dict) -> str:
    if "default" not in node or node["default"] in ({}, []):
        return ""
    value = node["default"]
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{_cell(json.dumps(value))}`".replace("``", "")


def _meaning(group: schema.Group, node: dict) -> str:
    text = _cell(node["description"])
    values = node.get("enum") or schema.resolve(group, node.get("items", {})).get("enum")
    if values:
        text += " One of " + ", ".join(f"`{value}`" for value in values) + "."
    return text + _limits(node)


def _limits(node: dict) -> str:
    parts = []
    for low, high, unit in (("minimum", "maximum", ""), ("minItems", "maxItems", " entries"), ("minLength", "maxLength", " characters")):
        if low in node and high in node:
            parts.append(f"{node[low]} to {node[high]}{unit}")
        elif high in node:
            parts.append(f"at most {node[high]}{unit}")
        elif low in node and node[low] > 0:
            parts.append(f"at least {node[low]}{unit}")
    return f" ({', '.join(parts)})" if parts else ""


def _upstream_link(name: str) -> str:
    return f"[{name.rsplit('.', 1)[1]}]({KUBERNETES_REFERENCE})"


def _type(group: schema.Group, node: dict) -> str:
    if name := schema.struct_name(group, node):
        return f"[{name}](#{name.lower()})"
    full = schema.resolve(group, node)
    if name := schema.upstream_ref(full):
        return _upstream_link(name)
    if full.get("anyValue"):
        return "any value"
    if full["type"] == "array":
        return f"list of {_type(group, full['items'])}"
    if full["type"] == "object" and "additionalProperties" in full:
        return f"map of {_type(group, full['additionalProperties'])}"
    if full.get("format") == "date-time":
        return "time"
    if full.get("format") == "byte":
        return "base64"
    return full["type"]
