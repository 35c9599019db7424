#!/usr/bin/env python3
"""Generates from api/ what depends on the shape of our kinds.

    generate.py                  writes deploy/crds/ and docs/reference/, which are kept in git
    generate.py --check          fails when they are not what would be written
    generate.py cpp --out DIR    writes DIR/api/<group>/types.h and types.cc

The language of api/ is described in api/README.md. Only deploy/crds/ needs the OpenAPI documents of Kubernetes,
and with them Go; without Go, --check looks at the rest and says so.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import cpp
import crd
import docs
import openapi
import schema

ROOT = pathlib.Path(__file__).resolve().parents[2]


def crd_files(groups: list[schema.Group], upstream: openapi.Upstream) -> dict[str, str]:
    return {
        f"deploy/crds/{crd.file_name(group, kind)}": crd.render(group, kind, upstream)
        for group in groups for kind in group.kinds
    }


def docs_files(groups: list[schema.Group]) -> dict[str, str]:
    return {f"docs/reference/{docs.file_name(kind)}": docs.render(group, kind) for group in groups for kind in group.kinds}


def cpp_files(groups: list[schema.Group]) -> dict[str, str]:
    files = {}
    for group in groups:
        files[f"api/{group.folder}/types.h"] = cpp.render_header(group)
        files[f"api/{group.folder}/types.cc"] = cpp.render_source(group)
    return files


def write(root: pathlib.Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def stale(root: pathlib.Path, files: dict[str, str]) -> list[str]:
    """Files that differ from what they should be, and definitions that no kind has any more."""
    def differs(name: str, text: str) -> bool:
        path = root / name
        return not path.exists() or path.read_text(encoding="utf-8") != text

    found = [name for name, text in files.items() if differs(name, text)]
    if any(name.startswith("deploy/crds/") for name in files):
        there = {f"deploy/crds/{path.name}" for path in (root / "deploy/crds").glob("*.yaml")}
        found += sorted(there - set(files))
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", choices=["all", "cpp"], default="all")
    parser.add_argument("--out", type=pathlib.Path, help="with cpp: the folder to write to")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a file is not fresh")
    options = parser.parse_args(arguments)
    groups = schema.load_groups(ROOT / "api")
    if options.output == "cpp":
        if options.out is None:
            parser.error("cpp needs --out")
        write(options.out, cpp_files(groups))
        return 0
    files = docs_files(groups)
    try:
        files.update(crd_files(groups, openapi.Upstream()))
    except openapi.UpstreamMissing as error:
        print(f"deploy/crds not looked at: {error}", file=sys.stderr)
        if not options.check:
            return 1
    if not options.check:
        write(ROOT, files)
        return 0
    for name in (names := stale(ROOT, files)):
        print(f"{name} is stale: run tools/generate/generate.py", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
