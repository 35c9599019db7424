"""Writes C++ types: a struct for each kind and each definition with fields, and the names of the group.

A field becomes
  required            a plain member; reading fails without it
  with a default      a plain member with that default; always written
  bool or number      std::optional
  presence: true      std::optional of the struct
  text, list, map, struct, data::Value
                      a plain member; left out when empty (a data::Value: when null)
Types of Kubernetes are data::Value, so that what they gain in later versions passes through.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap

from cpp_support import SUPPORT
import schema

BANNER = "// Generated from api/{folder}/ by tools/generate/generate.py. Do not edit.\n"
INDENT = " " * 4


def snake(name: str) -> str:
    """certSANs -> cert_sans, configurationJSONPatches -> configuration_json_patches"""
    words = re.findall(r"[A-Z]+s(?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)
    result = "_".join(word.lower() for word in words)
    return "namespace_name" if result == "namespace" else result


def constant(prefix: str, value: str) -> str:
    return "k" + prefix + value[0].upper() + re.sub(r"[^A-Za-z0-9]", "", value[1:])


@dataclasses.dataclass
class Field:
    name: str
    member: str
    type: str
    initializer: str
    required: bool
    write_always: bool
    description: str


def _literal(value: object, cpp_type: str) -> str:
    """A default as a C++ expression of `cpp_type`."""
    if cpp_type == "data::Value":
        return _value_literal(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        inner = cpp_type.removeprefix("std::vector<").removesuffix(">")
        return "{" + ", ".join(_literal(item, inner) for item in value) + "}"
    if value == {}:
        return "{}"
    raise schema.SchemaError(f"default {value} of {cpp_type}: give the fields of the definition defaults instead")


def _value_literal(value: object) -> str:
    if isinstance(value, dict):
        members = ", ".join("{" + _literal(key, "") + ", " + _value_literal(item) + "}" for key, item in value.items())
        return "data::Value::object({" + members + "})"
    if isinstance(value, list):
        return "data::Value::array({" + ", ".join(_value_literal(item) for item in value) + "})"
    return _literal(value, "")


def cpp_type(group: schema.Group, node: dict) -> str:
    """The type of a member, std::optional apart."""
    if name := schema.struct_name(group, node):
        return name
    full = schema.resolve(group, node)
    if full.get("opaque") or full.get("anyValue") or schema.upstream_ref(full):
        return "data::Value"
    if full["type"] == "array":
        return f"std::vector<{cpp_type(group, full['items'])}>"
    if full["type"] == "object":
        return f"std::map<std::string, {cpp_type(group, full['additionalProperties'])}>"
    if full["type"] == "integer":
        return "int32_t" if full.get("format") == "int32" else "int64_t"
    return {"string": "std::string", "boolean": "bool"}[full["type"]]


def fields_of(group: schema.Group, definition: dict) -> list[Field]:
    fields = []
    for name, node in definition["properties"].items():
        full = schema.resolve(group, node)
        base = cpp_type(group, node)
        required = name in definition.get("required", [])
        has_default = "default" in full
        initializer = _literal(full["default"], base) if has_default else "{}"
        scalar = base in ("bool", "int32_t", "int64_t")
        optional = not required and not has_default and (scalar or full.get("presence", False))
        if scalar and required and not has_default:
            initializer = "false" if base == "bool" else "0"
        kind = f"std::optional<{base}>" if optional else base
        fields.append(Field(name, snake(name), kind, initializer, required, required or has_default, full["description"]))
    return fields


def structs(group: schema.Group, roots: list[str]) -> list[str]:
    """The structs that `roots` need, each after those that it has as members."""
    ordered: list[str] = []

    def visit(node: dict) -> None:
        name = schema.struct_name(group, node)
        full = group.definitions[name] if name else schema.resolve(group, node)
        if full.get("opaque") or schema.upstream_ref(full):
            return
        if name is not None and name in ordered:
            return
        for child in [*full.get("properties", {}).values(), full.get("items"), full.get("additionalProperties")]:
            if isinstance(child, dict):
                visit(child)
        if name is not None:
            ordered.append(name)

    for root in roots:
        visit({"$ref": "#/" + root})
    return ordered


def _all_structs(group: schema.Group) -> list[str]:
    return structs(group, [root for kind in group.kinds for root in (kind.spec, kind.status)])


def _comment(text: str, indent: str = "", mark: str = "///") -> list[str]:
    return textwrap.wrap(text, 98, initial_indent=f"{indent}{mark} ", subsequent_indent=f"{indent}{mark} ",
                         break_long_words=False, break_on_hyphens=False)


def _member(kind: str, name: str, initializer: str) -> list[str]:
    line = f"{INDENT}{kind} {name}{initializer};" if initializer == "{}" else f"{INDENT}{kind} {name} = {initializer};"
    return textwrap.wrap(line, 98, subsequent_indent=INDENT * 3, break_long_words=False, break_on_hyphens=False)


def _functions(name: str) -> list[str]:
    return [
        f"{INDENT}static Result<{name}> from_value(const data::Value& value);",
        f"{INDENT}data::Value to_value() const;",
        f"{INDENT}friend bool operator==(const {name}&, const {name}&) = default;",
        "};", "",
    ]


def _struct(group: schema.Group, name: str) -> list[str]:
    definition = group.definitions[name]
    lines = [*_comment(definition["description"]), f"struct {name} {{"]
    for field in fields_of(group, definition):
        lines += [*_comment(field.description, INDENT), *_member(field.type, field.member, field.initializer)]
    if "inline" in definition:
        lines += [*_comment(f"The fields of {definition['inline']}, which stand beside those above.", INDENT),
                  *_member("data::Value", "inlined", "data::Value::object()")]
    return [*lines, "", *_functions(name)]


def _kind(group: schema.Group, kind: schema.Kind) -> list[str]:
    text = {
        "kKind": kind.name, "kListKind": kind.name + "List", "kPlural": kind.plural, "kSingular": kind.name.lower(),
    }
    return [
        *_comment(kind.description), f"struct {kind.name} {{",
        *[f'{INDENT}static constexpr std::string_view {key} = "{value}";' for key, value in text.items()],
        f"{INDENT}static constexpr bool kNamespaced = {'true' if kind.scope == 'Namespaced' else 'false'};", "",
        f"{INDENT}/// As the API server gave it: name, namespace, uid, generation, labels, finalizers, …",
        f"{INDENT}data::Value metadata{{}};",
        f"{INDENT}{kind.spec} spec{{}};",
        f"{INDENT}{kind.status} status{{}};", "",
        f'{INDENT}std::string_view name() const {{ return metadata["name"].as_string(); }}',
        f'{INDENT}std::string_view namespace_name() const {{ return metadata["namespace"].as_string(); }}',
        f'{INDENT}std::string_view uid() const {{ return metadata["uid"].as_string(); }}',
        f'{INDENT}int64_t generation() const {{ return metadata["generation"].as_int(); }}',
        f"{INDENT}/// True from the moment that somebody asked for the deletion.",
        f'{INDENT}bool is_deleting() const {{ return !metadata["deletionTimestamp"].is_null(); }}', "",
        *_functions(kind.name),
    ]


def _constant_line(name: str, value: str) -> list[str]:
    line = f'inline constexpr std::string_view {name} = "{value}";'
    return [line] if len(line) <= 100 else [line.replace(" = ", " =\n" + INDENT, 1)]


def _constants(group: schema.Group) -> list[str]:
    lines = [*_constant_line("kGroup", group.name), *_constant_line("kVersion", group.version),
             *_constant_line("kApiVersion", f"{group.name}/{group.version}"), ""]
    for block in group.constants:
        lines += _comment(" ".join(block["comment"].split()), mark="//")
        for name, value in block["names"].items():
            lines += _constant_line(name, value)
        lines.append("")
    for name in schema.reachable(group, [root for kind in group.kinds for root in (kind.spec, kind.status)]):
        definition = group.definitions[name]
        if "enum" in definition and name != "AdmissionController":
            lines += _comment(f"{name}: {definition['description']}", mark="//")
            for value in definition["enum"]:
                lines += _constant_line(constant(name, value), value)
            lines.append("")
    return lines


def _namespace(group: schema.Group) -> str:
    return f"basalt::api::{group.folder}"


def render_header(group: schema.Group) -> str:
    lines = [
        BANNER.format(folder=group.folder) + "//",
        f"// The kinds of {group.name}/{group.version} as values, and the names that belong to them.",
        "//",
        "// from_value() takes what an API server serves. It never asserts on what it is given: a member of the wrong",
        "// type or a missing required one is InvalidArgument with the path of the field; null counts as missing;",
        "// members that the schema does not have are dropped. Limits, patterns and rules are the API server's",
        "// business and not looked at. to_value() leaves out what is unset and writes defaults. Types of Kubernetes",
        "// stay data::Value, null when unset. Plain values: no I/O, any thread.",
        "#pragma once", "",
        "#include <cstdint>", "#include <map>", "#include <optional>", "#include <string>", "#include <string_view>",
        "#include <vector>", "", '#include "base/result.h"', '#include "data/value.h"', "",
        f"namespace {_namespace(group)} {{", "", *_constants(group),
    ]
    for name in _all_structs(group):
        lines += _struct(group, name)
    for kind in group.kinds:
        lines += _kind(group, kind)
    return "\n".join([*lines, f"}}  // namespace {_namespace(group)}", ""])


def _reader(group: schema.Group, name: str) -> list[str]:
    definition = group.definitions[name]
    fields = fields_of(group, definition)
    lines = [f"static bool read(const Value& in, {name}& out, Failure& failure) {{",
             f"{INDENT}if (!read_object(in, failure)) {{", f"{INDENT * 2}return false;", f"{INDENT}}}"]
    if "inline" in definition:
        own = ", ".join(f'"{field.name}"' for field in fields)
        lines.append(f"{INDENT}read_inlined(in, {{{own}}}, out.inlined);")
    calls = [f'{"read_required" if field.required else "read_field"}(in, "{field.name}", out.{field.member}, failure)'
             for field in fields]
    return [*lines, f"{INDENT}return " + f" &&\n{INDENT * 2}   ".join(calls) + ";", "}", ""]


def _from_value(name: str) -> list[str]:
    return [f"Result<{name}> {name}::from_value(const data::Value& value) {{", f"{INDENT}{name} out;",
            f"{INDENT}Failure failure;", f"{INDENT}const bool ok = read(value, out, failure);",
            f"{INDENT}return finish(ok, std::move(out), failure);", "}", ""]


def _writer(group: schema.Group, name: str) -> list[str]:
    definition = group.definitions[name]
    start = "inlined" if "inline" in definition else "Value::object()"
    lines = [f"data::Value {name}::to_value() const {{", f"{INDENT}Value out = {start};"]
    for field in fields_of(group, definition):
        function = "write_field" if field.write_always else "write_if_set"
        lines.append(f'{INDENT}{function}(out, "{field.name}", {field.member});')
    return [*lines, f"{INDENT}return out;", "}", ""]


def _kind_source(kind: schema.Kind) -> list[str]:
    return [
        f"static bool read(const Value& in, {kind.name}& out, Failure& failure) {{",
        f"{INDENT}if (!read_object(in, failure)) {{", f"{INDENT * 2}return false;", f"{INDENT}}}",
        f"{INDENT}if (const Value& kind = in[\"kind\"]; !kind.is_null() && kind.as_string() != {kind.name}::kKind) {{",
        f'{INDENT * 2}failure.path = "kind";',
        f'{INDENT * 2}failure.problem = fmt::format("expected {{}}", {kind.name}::kKind);',
        f"{INDENT * 2}return false;", f"{INDENT}}}",
        f"{INDENT}out.metadata = in[\"metadata\"];",
        f'{INDENT}return read_required(in, "spec", out.spec, failure) && read_field(in, "status", out.status, failure);',
        "}", "", *_from_value(kind.name),
        f"data::Value {kind.name}::to_value() const {{",
        f'{INDENT}Value out = Value::object({{{{"apiVersion", kApiVersion}}, {{"kind", kKind}}}});',
        f'{INDENT}write_if_set(out, "metadata", metadata);',
        f'{INDENT}write_field(out, "spec", spec);', f'{INDENT}write_if_set(out, "status", status);',
        f"{INDENT}return out;", "}", "",
    ]


def render_source(group: schema.Group) -> str:
    lines = [
        BANNER.format(folder=group.folder) + f'#include "api/{group.folder}/types.h"', "",
        "#include <algorithm>", "#include <initializer_list>", "#include <limits>", "#include <utility>", "",
        "#include <fmt/format.h>", "", f"namespace {_namespace(group)} {{", "namespace {", SUPPORT,
        "}  // namespace", "",
    ]
    # All readers are declared first, so that the templates above find them by the namespace of their argument.
    names = [*_all_structs(group), *[kind.name for kind in group.kinds]]
    lines += [*[f"static bool read(const Value& in, {name}& out, Failure& failure);" for name in names], ""]
    for name in _all_structs(group):
        lines += [*_reader(group, name), *_from_value(name), *_writer(group, name)]
    for kind in group.kinds:
        lines += _kind_source(kind)
    return "\n".join([*lines, f"}}  // namespace {_namespace(group)}", ""])
