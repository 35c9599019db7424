"""Expands types of Kubernetes into structural schemas, from the OpenAPI documents of a pinned version.

The documents come with the Go module k8s.io/kubernetes, which `go mod download` brings into the module cache.
Prose is left out: it is in Kubernetes' own reference, and would make our definitions too large for
`kubectl apply`.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess

# The version that embedded types are taken from. Later ones may have fields that are then pruned.
kubernetes_version = "v1.36.3"
DOCUMENTS = ["api__v1_openapi.json", "apis__apps__v1_openapi.json", "apis__networking.k8s.io__v1_openapi.json"]

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
# Signed decimal number with a binary or decimal suffix or an exponent.
QUANTITY_PATTERN = r"^[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"

KEPT_KEYS = {
    "type", "format", "enum", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern",
    "required", "nullable", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
}
# The formats that an API server knows; it warns of others.
KNOWN_FORMATS = {"int32", "int64", "float", "double", "byte", "date-time"}


def int_or_string(pattern: str | None = None) -> dict:
    schema: dict = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    if pattern:
        schema["pattern"] = pattern
    return schema


# Types whose document says less, or more, than a structural schema needs.
SPECIAL = {
    QUANTITY: int_or_string(QUANTITY_PATTERN),
    INT_OR_STRING: int_or_string(),
    # Only in claim templates of volumes, where just these may be set.
    META + "ObjectMeta": {
        "type": "object",
        "properties": {
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
}


class UpstreamMissing(Exception):
    """The OpenAPI documents cannot be had on this machine."""


def find_documents() -> pathlib.Path:
    """The folder with the documents of `kubernetes_version`, downloaded if need be."""
    if shutil.which("go") is None:
        raise UpstreamMissing("Go is needed to fetch the OpenAPI documents of Kubernetes: install it")
    module = f"k8s.io/kubernetes@{kubernetes_version}"
    run = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, text=True, cwd="/", check=False)
    if run.returncode != 0:
        raise UpstreamMissing(f"go mod download {module}: {run.stdout.strip()} {run.stderr.strip()}")
    return pathlib.Path(json.loads(run.stdout)["Dir"]) / "api" / "openapi-spec" / "v3"


class Upstream:
    """Types by name. Reads the documents when the first one is asked for."""

    def __init__(self, folder: pathlib.Path | None = None, schemas: dict | None = None):
        self._folder = folder
        self._schemas = schemas

    def _schema(self, name: str) -> dict:
        if self._schemas is None:
            folder = self._folder or find_documents()
            self._schemas = {}
            for document in DOCUMENTS:
                with open(folder / document, encoding="utf-8") as file:
                    self._schemas.update(json.load(file)["components"]["schemas"])
        if name not in self._schemas:
            raise KeyError(f"Kubernetes {kubernetes_version} has no type {name}")
        return self._schemas[name]

    def expand(self, name: str, parents: tuple[str, ...] = ()) -> dict:
        """The structural schema of one type."""
        if name in SPECIAL:
            return json.loads(json.dumps(SPECIAL[name]))
        if name in parents:
            raise ValueError(f"{name} contains itself, which a structural schema cannot say")
        return self._structural(self._schema(name), (*parents, name))

    def _structural(self, node: dict, parents: tuple[str, ...]) -> dict:
        result: dict = {}
        for part in [*node.get("allOf", []), *([node] if "$ref" in node else [])]:
            result.update(self.expand(part["$ref"].rsplit("/", 1)[1], parents))
        for key, value in node.items():
            if key in KEPT_KEYS and not (key == "format" and value not in KNOWN_FORMATS):
                result[key] = value
        if "properties" in node:
            result["properties"] = {
                name: self._structural(field, parents) for name, field in sorted(node["properties"].items())
            }
        if "items" in node:
            result["items"] = self._structural(node["items"], parents)
            _give_keys_defaults(result, self._item(node["items"]))
        if isinstance(node.get("additionalProperties"), dict):
            result["additionalProperties"] = self._structural(node["additionalProperties"], parents)
        return result

    def _item(self, items: dict) -> dict:
        for part in [*items.get("allOf", []), items]:
            if "$ref" in part:
                return self._schema(part["$ref"].rsplit("/", 1)[1])
        return items


def _give_keys_defaults(array: dict, item: dict) -> None:
    """A key of a list is required or has a default; other defaults are the business of Kubernetes."""
    for key in array.get("x-kubernetes-list-map-keys", []):
        field = array["items"]["properties"][key]
        if key not in array["items"].get("required", []):
            field["default"] = item["properties"][key]["default"]


def without_validation(schema: dict) -> dict:
    """`schema` with types and list keys only: for copies of another object's status."""
    kept = {
        "type", "nullable", "default", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type", "x-kubernetes-int-or-string", "anyOf", "x-kubernetes-preserve-unknown-fields",
    }
    result = {key: value for key, value in schema.items() if key in kept or key == "format"}
    if "properties" in schema:
        result["properties"] = {name: without_validation(field) for name, field in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in schema:
            result[key] = without_validation(schema[key])
    if keys := schema.get("x-kubernetes-list-map-keys"):
        result["items"]["required"] = [key for key in keys if key in schema["items"].get("required", [])]
    return result
