"""Reads api/<group>/*.yaml: kinds, their definitions, and the names that belong to the group.

The language of these files is described in api/README.md. A file that breaks its rules is refused here, with
the place of the fault, so that the writers of the outputs can rely on them.
"""

from __future__ import annotations

import copy
import dataclasses
import pathlib

import yaml

# Keys that mean the same here as in a CustomResourceDefinition.
PLAIN_KEYS = {
    "type", "description", "default", "enum", "format", "minimum", "maximum", "minLength", "maxLength",
    "minItems", "maxItems", "pattern", "required",
}
# Our shorthands for keys of a CustomResourceDefinition.
RENAMED_KEYS = {
    "rules": "x-kubernetes-validations",
    "listType": "x-kubernetes-list-type",
    "listMapKeys": "x-kubernetes-list-map-keys",
    "mapType": "x-kubernetes-map-type",
}
SUBSCHEMA_KEYS = {"properties", "items", "additionalProperties"}
OWN_KEYS = {"$ref", "inline", "anyValue", "presence", "opaque"}
KNOWN_KEYS = PLAIN_KEYS | set(RENAMED_KEYS) | SUBSCHEMA_KEYS | OWN_KEYS
RULE_KEYS = {"rule", "message", "fieldPath", "reason"}
# Marks, in the place of a fault, fields that only add to those of a Kubernetes type.
OVERLAY = " (overlay)"


class SchemaError(Exception):
    """A file in api/ breaks the rules of its language."""


@dataclasses.dataclass
class Kind:
    name: str
    plural: str
    scope: str
    description: str
    spec: str
    status: str
    short_names: list[str]
    categories: list[str]
    printer_columns: list[dict]
    subresources: dict
    rules: list[dict]


@dataclasses.dataclass
class Group:
    name: str
    version: str
    folder: str
    constants: list[dict]
    definitions: dict[str, dict]
    kinds: list[Kind]


def own_ref(node: dict) -> str | None:
    """The definition of the same group that `node` refers to."""
    ref = node.get("$ref", "")
    return ref[2:] if ref.startswith("#/") else None


def upstream_ref(node: dict) -> str | None:
    """The Kubernetes type that `node` refers to."""
    ref = node.get("$ref", "")
    return ref if ref and not ref.startswith("#/") else None


def merge(base: dict, over: dict) -> dict:
    """`over` on top of `base`: fields and rules add up, all else is replaced."""
    result = copy.deepcopy(base)
    for key, value in over.items():
        if key == "properties" and key in result:
            for name, field in value.items():
                result[key][name] = merge(result[key].get(name, {}), field)
        elif key in ("rules", "x-kubernetes-validations") and key in result:
            result[key] = result[key] + copy.deepcopy(value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def resolve(group: Group, node: dict) -> dict:
    """`node` with references to definitions of the group replaced by what they stand for."""
    name = own_ref(node)
    if name is None:
        return node
    rest = {key: value for key, value in node.items() if key != "$ref"}
    return merge(resolve(group, group.definitions[name]), rest)


def struct_name(group: Group, node: dict) -> str | None:
    """The definition behind `node` if it is an object with fields of our own, else nothing."""
    name = own_ref(node)
    while name is not None:
        definition = group.definitions[name]
        if own_ref(definition) is None:
            is_struct = "properties" in definition and upstream_ref(definition) is None
            return name if is_struct and not definition.get("opaque") else None
        name = own_ref(definition)
    return None


def reachable(group: Group, roots: list[str]) -> list[str]:
    """The definitions that `roots` need, themselves included, in the order of their first use."""
    found: list[str] = []

    def visit(node: dict) -> None:
        name = own_ref(node)
        if name is not None and name not in found:
            found.append(name)
            visit(group.definitions[name])
        for field in node.get("properties", {}).values():
            visit(field)
        for key in ("items", "additionalProperties"):
            if key in node:
                visit(node[key])

    for root in roots:
        visit({"$ref": "#/" + root})
    return found


def _text(value: str) -> str:
    return " ".join(value.split())


def _check_rules(rules: list[dict], where: str) -> None:
    for rule in rules:
        if not {"rule", "message"} <= set(rule) <= RULE_KEYS:
            raise SchemaError(f"{where}: a rule has a rule and a message, and perhaps fieldPath and reason")
        rule["rule"], rule["message"] = _text(rule["rule"]), _text(rule["message"])


def _check(node: dict, where: str, definitions: dict, is_field: bool) -> None:
    """Refuses what the language does not have; brings prose into one line."""
    if not isinstance(node, dict):
        raise SchemaError(f"{where}: expected a schema")
    if unknown := set(node) - KNOWN_KEYS:
        raise SchemaError(f"{where}: unknown keys {sorted(unknown)}")
    if own_ref(node) is not None and own_ref(node) not in definitions:
        raise SchemaError(f"{where}: no definition {own_ref(node)}")
    if not ({"$ref", "anyValue", "type"} & set(node)):
        if OVERLAY not in where:
            raise SchemaError(f"{where}: needs a type, a $ref or anyValue")
    if node.get("type") == "array" and "items" not in node:
        raise SchemaError(f"{where}: an array needs items")
    if node.get("type") == "object" and not ({"properties", "additionalProperties"} & set(node)):
        raise SchemaError(f"{where}: an object needs properties or additionalProperties")
    if is_field and node.get("type") == "object" and "properties" in node:
        raise SchemaError(f"{where}: an object with fields is a definition with a name")
    if missing := set(node.get("required", [])) - set(node.get("properties", {})):
        raise SchemaError(f"{where}: required, but no field: {sorted(missing)}")
    if "description" in node:
        node["description"] = _text(node["description"])
    _check_rules(node.get("rules", []), where)
    below = where + OVERLAY if upstream_ref(node) else where
    for name, field in node.get("properties", {}).items():
        _check(field, f"{below}.{name}", definitions, True)
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in node:
            _check(node[key], where + mark, definitions, True)


def _check_described(group: Group) -> None:
    for name, definition in group.definitions.items():
        if upstream_ref(definition):
            continue
        for field_name, field in definition.get("properties", {}).items():
            if not resolve(group, field).get("description"):
                raise SchemaError(f"{name}.{field_name}: needs a description")


def _kind(document: dict, where: str) -> Kind:
    rules = document.get("rules", [])
    _check_rules(rules, where)
    return Kind(
        name=document["kind"],
        plural=document["plural"],
        scope=document["scope"],
        description=_text(document["description"]),
        spec=document["spec"].removeprefix("#/"),
        status=document["status"].removeprefix("#/"),
        short_names=document.get("shortNames", []),
        categories=document.get("categories", []),
        printer_columns=document.get("printerColumns", []),
        subresources=document.get("subresources", {}),
        rules=rules,
    )


def load_group(folder: pathlib.Path) -> Group:
    """Reads and checks one folder of api/."""
    with open(folder / "group.yaml", encoding="utf-8") as file:
        head = yaml.safe_load(file)
    group = Group(head["group"], head["version"], folder.name, head.get("constants", []), {}, [])
    for path in sorted(folder.glob("*.yaml")):
        if path.name == "group.yaml":
            continue
        with open(path, encoding="utf-8") as file:
            document = yaml.safe_load(file)
        for name, definition in document.get("definitions", {}).items():
            if name in group.definitions:
                raise SchemaError(f"{path}: {name} is defined twice")
            group.definitions[name] = definition
        if "kind" in document:
            group.kinds.append(_kind(document, str(path)))
    for name, definition in group.definitions.items():
        _check(definition, name, group.definitions, False)
    for kind in group.kinds:
        for root in (kind.spec, kind.status):
            if root not in group.definitions:
                raise SchemaError(f"{kind.name}: no definition {root}")
    _check_described(group)
    return group


def load_groups(api: pathlib.Path) -> list[Group]:
    """Every folder of api/ that has a group.yaml."""
    return [load_group(path.parent) for path in sorted(api.glob("*/group.yaml"))]
