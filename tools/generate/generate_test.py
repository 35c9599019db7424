#!/usr/bin/env python3
"""Tests of the generator. Run with: python3 tools/generate/generate_test.py"""

from __future__ import annotations

import copy
import json
import os
import pathlib
import re
import tempfile
import textwrap
import unittest

import yaml

import cpp
import crd
import docs
import generate
import openapi
import schema

HERE = pathlib.Path(__file__).resolve().parent
# A piece of an OpenAPI document with everything that the expansion has to deal with.
UPSTREAM = {
    "io.k8s.api.core.v1.Box": {
        "type": "object", "description": "prose", "required": ["name"],
        "x-kubernetes-group-version-kind": [{"kind": "Box"}],
        "properties": {
            "name": {"type": "string", "default": "", "description": "prose"},
            "size": {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity"},
            "since": {"allOf": [{"$ref": "#/components/schemas/Time"}], "default": {}, "description": "prose"},
            "ports": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "port",
                "items": {"allOf": [{"$ref": "#/components/schemas/Port"}], "default": {}},
            },
        },
    },
    "Time": {"type": "string", "format": "date-time"},
    "Port": {
        "type": "object", "required": ["port"],
        "properties": {
            "port": {"type": "integer", "format": "int32", "default": 0, "minimum": 1},
            "protocol": {"type": "string", "default": "TCP"},
        },
    },
    "Loop": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Loop"}}},
}
GROUP = "group: test.example\nversion: v1\nconstants:\n  - comment: A label.\n    names: {kLabel: test.example/label}\n"
KIND = """
kind: Widget
plural: widgets
scope: Namespaced
shortNames: [wi]
description: A widget.
printerColumns: [{name: Age, type: date, jsonPath: .metadata.creationTimestamp, description: Its age}]
subresources: {status: {}}
spec: '#/WidgetSpec'
status: '#/WidgetStatus'
definitions:
  WidgetSpec:
    type: object
    description: What it should be.
    required: [color]
    properties:
      color: {$ref: '#/Color'}
      size: {type: integer, format: int32, description: How large., default: 3, minimum: 0, maximum: 9}
      hidden: {type: boolean, description: Whether it is hidden.}
      names: {type: array, description: Its names., maxItems: 4, items: {type: string, maxLength: 9}}
      nested: {$ref: '#/Nested', presence: true}
      box: {$ref: io.k8s.api.core.v1.Box, description: Its box.}
    rules:
      - {rule: 'self.size != 4', message: 'size cannot be 4: choose another', fieldPath: .size}
  Color:
    type: string
    description: A color.
    enum: [red, green]
  Nested:
    type: object
    description: Something inside.
    properties:
      any: {anyValue: true, description: Any value.}
      labels: {type: object, description: Labels., additionalProperties: {type: string}}
  WidgetStatus:
    type: object
    description: What it is.
    inline: io.k8s.api.core.v1.Box
    properties:
      color: {type: string, description: The color seen.}
"""


def upstream() -> openapi.Upstream:
    return openapi.Upstream(schemas=copy.deepcopy(UPSTREAM))


def load(kind: str, group: str = GROUP) -> schema.Group:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "sample"
        path.mkdir()
        (path / "group.yaml").write_text(group, encoding="utf-8")
        (path / "widget.yaml").write_text(kind, encoding="utf-8")
        return schema.load_group(path)


class LanguageTest(unittest.TestCase):
    def refused(self, old: str, new: str, message: str) -> None:
        self.assertIn(old, KIND)
        with self.assertRaisesRegex(schema.SchemaError, message):
            load(KIND.replace(old, new, 1))

    def test_faults_are_named(self) -> None:
        self.refused("maximum: 9", "largest: 9", r"WidgetSpec.size: unknown keys \['largest'\]")
        self.refused("'#/Color'", "'#/Colour'", "WidgetSpec.color: no definition Colour")
        self.refused("required: [color]", "required: [colour]", "WidgetSpec: required, but no field")
        self.refused("message: 'size cannot be 4: choose another', ", "", "WidgetSpec: a rule has a rule and a message")
        self.refused("type: boolean, description: Whether it is hidden.", "type: boolean", "WidgetSpec.hidden: needs a description")
        self.refused("type: boolean, description", "description", "WidgetSpec.hidden: needs a type")
        self.refused("maxItems: 4, items: {type: string, maxLength: 9}", "maxItems: 4", "WidgetSpec.names: an array needs items")
        self.refused("spec: '#/WidgetSpec'", "spec: '#/Spec'", "Widget: no definition Spec")

    def test_objects_with_fields_have_names(self) -> None:
        self.refused("{type: boolean, description: Whether it is hidden.}",
                     "{type: object, description: x, properties: {a: {type: string}}}",
                     "WidgetSpec.hidden: an object with fields is a definition")


class ExpansionTest(unittest.TestCase):
    def test_structural(self) -> None:
        self.assertEqual(upstream().expand("io.k8s.api.core.v1.Box"), {
            "type": "object", "required": ["name"],
            "properties": {
                "name": {"type": "string"},
                "ports": {
                    "type": "array", "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["port", "protocol"],
                    "items": {
                        "type": "object", "required": ["port"],
                        "properties": {
                            "port": {"type": "integer", "format": "int32", "minimum": 1},
                            "protocol": {"type": "string", "default": "TCP"},
                        },
                    },
                },
                "since": {"type": "string", "format": "date-time"},
                "size": openapi.int_or_string(openapi.QUANTITY_PATTERN),
            },
        })

    def test_copied_status_is_not_validated(self) -> None:
        box = openapi.without_validation(upstream().expand("io.k8s.api.core.v1.Box"))
        self.assertNotIn("required", box)
        self.assertNotIn("pattern", box["properties"]["size"])
        self.assertNotIn("minimum", box["properties"]["ports"]["items"]["properties"]["port"])
        self.assertEqual(box["properties"]["ports"]["items"]["required"], ["port"])

    def test_types_that_cannot_be_expanded(self) -> None:
        with self.assertRaisesRegex(KeyError, "no type Nothing"):
            upstream().expand("Nothing")
        with self.assertRaisesRegex(ValueError, "contains itself"):
            upstream().expand("Loop")

    def test_quantities(self) -> None:
        for text in ["1", "1.5", ".5", "1.", "100m", "1Gi", "1e3", "1E-3", "-1", "+1k"]:
            self.assertRegex(text, openapi.QUANTITY_PATTERN)
        for text in ["", "much", "1 Gi", "1GiB", "Gi", "1ee3", "0x1"]:
            self.assertNotRegex(text, openapi.QUANTITY_PATTERN)


class SampleTest(unittest.TestCase):
    """One small kind against what is expected of it, text for text."""

    maxDiff = None

    def golden(self, name: str, text: str) -> None:
        path = HERE / "testdata" / name
        if os.environ.get("UPDATE_GOLDEN"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        self.assertEqual(text, path.read_text(encoding="utf-8"), f"{path} differs; if it should, run with UPDATE_GOLDEN=1")

    def test_outputs(self) -> None:
        group = load(KIND)
        group.folder = "sample"
        self.golden("widget_crd.yaml", crd.render(group, group.kinds[0], upstream()))
        self.golden("widget.md", docs.render(group, group.kinds[0]))
        self.golden("widget_types.h.txt", cpp.render_header(group))
        source = cpp.render_source(group)
        self.golden("widget_types.cc.txt", source[source.index("}  // namespace\n"):])

    def test_names(self) -> None:
        for name, expected in {
            "certSANs": "cert_sans", "dnsServiceIPs": "dns_service_ips", "coreDNS": "core_dns",
            "configurationJSONPatches": "configuration_json_patches", "frontProxyCA": "front_proxy_ca",
            "serviceCidrs": "service_cidrs", "allowAddressAsExternalIP": "allow_address_as_external_ip",
            "clusterrolebinding": "clusterrolebinding", "namespace": "namespace_name", "op": "op",
            "apiServerKubeletClient": "api_server_kubelet_client", "parentRefs": "parent_refs", "urls": "urls",
        }.items():
            self.assertEqual(cpp.snake(name), expected)


def nodes(node: dict, path: str = ""):
    """Every schema in a definition, with its place."""
    yield path, node
    for name, field in node.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(node.get(key), dict):
            yield from nodes(node[key], path + mark)


class CommittedTest(unittest.TestCase):
    """What is in deploy/crds, whether or not it could be generated here."""

    @classmethod
    def setUpClass(cls) -> None:
        paths = sorted((generate.ROOT / "deploy/crds").glob("*.yaml"))
        cls.definitions = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths}

    def schemas(self):
        for name, document in self.definitions.items():
            for version in document["spec"]["versions"]:
                yield from nodes(version["schema"]["openAPIV3Schema"], name)

    def test_every_kind_is_there(self) -> None:
        kinds = {document["spec"]["names"]["kind"] for document in self.definitions.values()}
        self.assertEqual(kinds, {"TenantControlPlane", "DataStore", "KubeconfigGenerator"})

    def test_schemas_are_structural(self) -> None:
        allowed = schema.PLAIN_KEYS | set(schema.RENAMED_KEYS.values()) | schema.SUBSCHEMA_KEYS | {
            "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields", "anyOf", "nullable"}
        for path, node in self.schemas():
            self.assertLessEqual(set(node), allowed, path)
            if node.get("x-kubernetes-int-or-string"):
                self.assertEqual(node["anyOf"], [{"type": "integer"}, {"type": "string"}], path)
                self.assertNotIn("type", node, path)
            elif not node.get("x-kubernetes-preserve-unknown-fields"):
                self.assertIn("type", node, path)
                self.assertNotIn("anyOf", node, path)
            self.assertFalse("properties" in node and "additionalProperties" in node, path)
            self.assertLessEqual(set(node.get("required", [])), set(node.get("properties", {})), path)

    def test_lists(self) -> None:
        for path, node in self.schemas():
            keys = node.get("x-kubernetes-list-map-keys", [])
            self.assertEqual(node.get("x-kubernetes-list-type") == "map", bool(keys), path)
            for key in keys:
                item = node["items"]
                self.assertTrue(key in item.get("required", []) or "default" in item["properties"][key], path)

    def test_defaults_fit(self) -> None:
        python = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
        for path, node in self.schemas():
            if "default" in node:
                self.assertIs(type(node["default"]), python[node["type"]], path)
                self.assertIn(node["default"], node.get("enum", [node["default"]]), path)

    def test_rules_say_what_to_do(self) -> None:
        count = 0
        for path, node in self.schemas():
            for rule in node.get("x-kubernetes-validations", []):
                self.assertRegex(rule["message"], r"\w.*[:,] .*\w", path)
                self.assertLess(len(rule["message"]), 2048, path)
                self.assertNotIn("\n", rule["rule"], path)
                count += 1
        self.assertGreater(count, 30)

    def test_probes_have_no_defaults(self) -> None:
        for path, node in self.schemas():
            if ".probes" in path:
                self.assertNotIn("default", node, path)

    def test_conditions_are_a_map(self) -> None:
        for name, document in self.definitions.items():
            status = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
            conditions = status["properties"]["conditions"]
            self.assertEqual(conditions["x-kubernetes-list-map-keys"], ["type"], name)
            self.assertIn("observedGeneration", status["properties"], name)

    def test_small_enough_for_kubectl_apply(self) -> None:
        for name, document in self.definitions.items():
            self.assertLess(len(json.dumps(document, separators=(",", ":"))), 200_000, name)

    def test_columns_point_at_fields(self) -> None:
        for name, document in self.definitions.items():
            root = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            places = {path.removeprefix(name).replace("[]", "") for path, _ in nodes(root, name)}
            for column in document["spec"]["versions"][0]["additionalPrinterColumns"]:
                path = re.sub(r"\[\?.*?\]", "", column["jsonPath"])
                if path != ".metadata.creationTimestamp":
                    self.assertIn(path, places, name)


class GenerateTest(unittest.TestCase):
    def test_twice_is_the_same(self) -> None:
        outputs = []
        for _ in range(2):
            groups = schema.load_groups(generate.ROOT / "api")
            outputs.append((generate.docs_files(groups), generate.cpp_files(groups)))
        self.assertEqual(outputs[0], outputs[1])

    def test_stale_files_are_found(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            files = {"deploy/crds/a.yaml": "a\n", "docs/reference/a.md": "b\n"}
            self.assertEqual(generate.stale(root, files), list(files))
            generate.write(root, files)
            self.assertEqual(generate.stale(root, files), [])
            (root / "docs/reference/a.md").write_text("c\n", encoding="utf-8")
            (root / "deploy/crds/old.yaml").write_text("", encoding="utf-8")
            self.assertEqual(generate.stale(root, files), ["docs/reference/a.md", "deploy/crds/old.yaml"])

    def test_committed_outputs_are_fresh(self) -> None:
        groups = schema.load_groups(generate.ROOT / "api")
        files = generate.docs_files(groups)
        try:
            files.update(generate.crd_files(groups, openapi.Upstream()))
        except openapi.UpstreamMissing as error:
            print(textwrap.shorten(f"deploy/crds not looked at: {error}", 200))
        self.assertEqual(generate.stale(generate.ROOT, files), [], "run tools/generate/generate.py")


if __name__ == "__main__":
    unittest.main()
