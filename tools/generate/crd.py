"""Writes CustomResourceDefinitions."""

from __future__ import annotations

import yaml

import openapi
import schema

HEADER = "# Generated from api/ by tools/generate/generate.py. Do not edit.\n"
# Order of keys within a schema; keys that are not named come between.
FIRST_KEYS = ["description", "type", "format", "default", "enum", "required"]
LAST_KEYS = ["properties", "items", "additionalProperties"]


def file_name(group: schema.Group, kind: schema.Kind) -> str:
    return f"{group.name}_{kind.plural}.yaml"


def structural(group: schema.Group, node: dict, upstream: openapi.Upstream) -> dict:
    """The structural schema of `node`, references expanded."""
    base: dict = {}
    if name := schema.own_ref(node):
        base = structural(group, group.definitions[name], upstream)
    elif name := schema.upstream_ref(node):
        base = upstream.expand(name)
    over: dict = {}
    if "inline" in node:
        inlined = openapi.without_validation(upstream.expand(node["inline"]))
        over["properties"] = inlined["properties"]
    for key, value in node.items():
        if key in schema.PLAIN_KEYS:
            over[key] = value
        elif key in schema.RENAMED_KEYS:
            over[schema.RENAMED_KEYS[key]] = value
        elif key == "properties":
            fields = {name: structural(group, field, upstream) for name, field in value.items()}
            over["properties"] = {**over.get("properties", {}), **fields}
        elif key in ("items", "additionalProperties"):
            over[key] = structural(group, value, upstream)
        elif key == "anyValue":
            over["x-kubernetes-preserve-unknown-fields"] = True
    return _ordered(schema.merge(base, over))


def _ordered(node: dict) -> dict:
    def rank(key: str) -> tuple[int, str]:
        if key in FIRST_KEYS:
            return FIRST_KEYS.index(key), ""
        if key in LAST_KEYS:
            return 200 + LAST_KEYS.index(key), ""
        return 100, key

    result = {key: node[key] for key in sorted(node, key=rank)}
    if "properties" in result:
        result["properties"] = dict(sorted(result["properties"].items()))
    return result


def root_schema(group: schema.Group, kind: schema.Kind, upstream: openapi.Upstream) -> dict:
    root = {
        "description": kind.description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(group, group.definitions[kind.spec], upstream),
            "status": structural(group, group.definitions[kind.status], upstream),
        },
    }
    if kind.rules:
        root["x-kubernetes-validations"] = kind.rules
    return _ordered(root)


def definition(group: schema.Group, kind: schema.Kind, upstream: openapi.Upstream) -> dict:
    singular = kind.name.lower()
    names: dict = {"kind": kind.name, "listKind": kind.name + "List", "plural": kind.plural, "singular": singular}
    if kind.short_names:
        names["shortNames"] = kind.short_names
    if kind.categories:
        names["categories"] = kind.categories
    version = {
        "name": group.version,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": kind.printer_columns,
        "subresources": kind.subresources,
        "schema": {"openAPIV3Schema": root_schema(group, kind, upstream)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{group.name}"},
        "spec": {"group": group.name, "names": names, "scope": kind.scope, "versions": [version]},
    }


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def render(group: schema.Group, kind: schema.Kind, upstream: openapi.Upstream) -> str:
    document = definition(group, kind, upstream)
    return HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
