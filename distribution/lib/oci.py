#!/usr/bin/env python3
"""Makes, checks, pushes and pulls container images as archives, without a daemon.

An archive is an OCI layout in a tar that also carries docker's manifest.json, so that `ctr images import`,
`skopeo copy oci-archive:` and `docker load` all take it. Layers are not compressed: images cross a loopback
or a bridge, and unpacking is what a node's start waits for. The same input gives the same bytes.
An archive appears under its name only when it is whole.
"""

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CREATED = "1970-01-01T00:00:00Z"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
CAPABILITY_BITS = {"net_bind_service": 10}
CHUNK_BYTES = 1 << 20
MANIFEST_LIMIT_BYTES = 4 << 20
REQUEST_TIMEOUT_S = 60
REQUEST_ATTEMPTS = 4


class Failure(Exception):
    """Something to tell the user in one line."""


def sha256_of(stream):
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return "sha256:" + digest.hexdigest(), size


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def blob_path(digest):
    return "blobs/" + digest.replace(":", "/")


# ---- layers ----------------------------------------------------------------------------------------------


class Layer:
    """A tar with entries in a fixed order, owners and times."""

    def __init__(self, directory):
        self.path = tempfile.mkstemp(dir=directory)[1]
        self.tar = tarfile.open(self.path, "w", format=tarfile.PAX_FORMAT)
        self.seen = set()

    def _entry(self, path, mode, kind):
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.mode, entry.type = mode, kind
        return entry

    def directory(self, path, mode=0o755):
        if path in ("", "/") or path in self.seen:
            return
        self.directory(os.path.dirname(path))
        self.seen.add(path)
        self.tar.addfile(self._entry(path, mode, tarfile.DIRTYPE))

    def text(self, path, content, mode=0o644):
        self.directory(os.path.dirname(path))
        self.seen.add(path)
        entry = self._entry(path, mode, tarfile.REGTYPE)
        entry.size = len(content.encode())
        self.tar.addfile(entry, io.BytesIO(content.encode()))

    def file(self, source, path, mode=None, capability=None):
        if path in self.seen:
            return
        self.directory(os.path.dirname(path))
        self.seen.add(path)
        with open(source, "rb") as stream:
            status = os.fstat(stream.fileno())
            executable = status.st_mode & 0o111
            entry = self._entry(path, mode or (0o755 if executable else 0o644), tarfile.REGTYPE)
            entry.size = status.st_size
            if capability:
                entry.pax_headers["SCHILY.xattr.security.capability"] = capability_xattr(capability)
            self.tar.addfile(entry, stream)

    def link(self, path, target):
        self.directory(os.path.dirname(path))
        entry = self._entry(path, 0o777, tarfile.SYMTYPE)
        entry.linkname = target
        self.tar.addfile(entry)

    def close(self):
        self.tar.close()
        with open(self.path, "rb") as stream:
            self.digest, self.size = sha256_of(stream)
        return self


def capability_xattr(name):
    """struct vfs_cap_data, revision 2, effective; all of its bytes are below 128, so it is a string too."""
    words = [0x02000001, 1 << CAPABILITY_BITS[name], 0, 0, 0]
    return b"".join(word.to_bytes(4, "little") for word in words).decode("ascii")


def base_layer(directory, certificates):
    layer = Layer(directory)
    layer.text("/etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\n"
                              "nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
                              "nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")
    layer.text("/etc/group", "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n")
    layer.text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    layer.directory("/tmp", 0o1777)
    layer.directory("/root", 0o700)
    layer.directory("/run")
    layer.directory("/var/run")
    layer.directory("/usr/local/bin")
    if certificates:
        if not os.path.exists(CERTIFICATES):
            raise Failure(f"{CERTIFICATES} is missing: install the package ca-certificates")
        layer.file(CERTIFICATES, CERTIFICATES, 0o644)
        layer.link("/usr/lib/ssl/cert.pem", CERTIFICATES)
    return layer.close()


def shared_objects(program):
    """Paths of the libraries and the loader of a dynamically linked program."""
    result = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    if "not a dynamic executable" in result.stderr or "statically linked" in result.stdout:
        return []
    if result.returncode != 0:
        raise Failure(f"ldd {program}: {result.stderr.strip()}")
    if missing := re.search(r"(\S+) => not found", result.stdout):
        raise Failure(f"{program} needs {missing.group(1)}, which is not installed")
    return sorted(set(re.findall(r"(?:=> |^\s*)(/\S+) \(", result.stdout, re.M)))


# ---- archives --------------------------------------------------------------------------------------------


def write_archive(path, manifests, blobs):
    """`manifests`: (reference, descriptor); `blobs`: digest -> bytes or a path. Appears when it is whole."""
    partial = os.path.join(os.path.dirname(os.path.abspath(path)), f".{os.path.basename(path)}.partial")
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {**descriptor, "platform": {"architecture": "amd64", "os": "linux"},
         "annotations": {"io.containerd.image.name": reference,
                         "org.opencontainers.image.ref.name": reference}}
        for reference, descriptor in manifests]}
    manifest = json.loads(blobs[manifests[0][1]["digest"]])
    docker = [{"Config": blob_path(manifest["config"]["digest"]),
               "RepoTags": [reference for reference, _ in manifests],
               "Layers": [blob_path(layer["digest"]) for layer in manifest["layers"]]}]
    with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar:
        add_bytes(tar, "oci-layout", canonical({"imageLayoutVersion": "1.0.0"}))
        add_bytes(tar, "index.json", canonical(index))
        add_bytes(tar, "manifest.json", canonical(docker))
        for digest in sorted(blobs):
            content = blobs[digest]
            if isinstance(content, bytes):
                add_bytes(tar, blob_path(digest), content)
                continue
            entry = tarfile.TarInfo(blob_path(digest))
            entry.mode = 0o644
            with open(content, "rb") as stream:
                entry.size = os.fstat(stream.fileno()).st_size
                tar.addfile(entry, stream)
    os.replace(partial, path)


def add_bytes(tar, name, content):
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = 0o644, len(content)
    tar.addfile(entry, io.BytesIO(content))


def create(options):
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(options.archive))) as directory:
        layers = [] if options.bare else [base_layer(directory, options.certificates)]
        libraries, programs = Layer(directory), Layer(directory)
        capabilities = dict(item.split("=", 1) for item in options.capability)
        for item in options.file + options.program:
            source, target = item.split(":", 1)
            programs.file(source, target, capability=capabilities.get(target))
        for item in options.program:
            for library in shared_objects(item.split(":", 1)[0]):
                libraries.file(library, library)
        if libraries.seen:
            layers.append(libraries.close())
        layers.append(programs.close())
        config = {"architecture": "amd64", "os": "linux", "created": CREATED,
                  "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                     f"SSL_CERT_FILE={CERTIFICATES}"], "WorkingDir": "/"},
                  "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]}}
        for key, value in (("Entrypoint", options.entrypoint), ("Cmd", options.command), ("User", options.user)):
            if value:
                config["config"][key] = value
        blobs = {layer.digest: layer.path for layer in layers}
        config_descriptor = add_json(blobs, OCI_CONFIG, config)
        manifest = add_json(blobs, OCI_MANIFEST, {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config_descriptor,
            "layers": [{"mediaType": OCI_LAYER, "digest": layer.digest, "size": layer.size} for layer in layers]})
        write_archive(options.archive, [(reference, manifest) for reference in options.reference], blobs)


def add_json(blobs, media_type, value):
    content = canonical(value)
    digest, size = sha256_of(io.BytesIO(content))
    blobs[digest] = content
    return {"mediaType": media_type, "digest": digest, "size": size}


class Archive:
    """Reads an archive."""

    def __init__(self, path):
        self.path = path
        try:
            self.tar = tarfile.open(path, "r:")
        except (OSError, tarfile.TarError) as error:
            raise Failure(f"{path}: {error}") from error

    def open(self, name):
        try:
            return self.tar.extractfile(name)
        except (KeyError, tarfile.TarError) as error:
            raise Failure(f"{self.path}: {name}: {error}") from error

    def json(self, name):
        return json.loads(self.open(name).read())

    def images(self):
        """(reference, descriptor) of every name in it."""
        return [(descriptor["annotations"]["io.containerd.image.name"], descriptor)
                for descriptor in self.json("index.json")["manifests"]]

    def manifest(self):
        descriptor = self.images()[0][1]
        return descriptor, self.json(blob_path(descriptor["digest"]))


def verify(options):
    for path in options.archives:
        archive = Archive(path)
        if archive.json("oci-layout").get("imageLayoutVersion") != "1.0.0":
            raise Failure(f"{path}: not an OCI layout")
        for descriptor in {d["digest"]: d for _, d in archive.images()}.values():
            manifest = archive.json(blob_path(descriptor["digest"]))
            for part in [descriptor, manifest["config"], *manifest["layers"]]:
                found = sha256_of(archive.open(blob_path(part["digest"])))
                if found != (part["digest"], part["size"]):
                    raise Failure(f"{path}: blob {part['digest']} has digest {found[0]} and {found[1]} bytes")
            config = archive.json(blob_path(manifest["config"]["digest"]))
            if len(config["rootfs"]["diff_ids"]) != len(manifest["layers"]):
                raise Failure(f"{path}: {len(manifest['layers'])} layers, other number of diff_ids")
        print(f"{os.path.basename(path)}: {' '.join(reference for reference, _ in archive.images())}")


def extract(options):
    """Files at the root of the image's layers, each under its name only when it is whole."""
    archive = Archive(options.archive)
    wanted = set(options.names)
    os.makedirs(options.directory, exist_ok=True)
    for layer in archive.manifest()[1]["layers"]:
        with tarfile.open(fileobj=archive.open(blob_path(layer["digest"])), mode="r:*") as tar:
            for entry in tar:
                if entry.isfile() and entry.name in wanted:
                    partial = os.path.join(options.directory, f".{entry.name}.partial")
                    with open(partial, "wb") as out:
                        shutil.copyfileobj(tar.extractfile(entry), out, CHUNK_BYTES)
                    os.chmod(partial, 0o755)
                    os.replace(partial, os.path.join(options.directory, entry.name))
                    wanted.discard(entry.name)
    if wanted:
        raise Failure(f"{options.archive} has no {', '.join(sorted(wanted))}")


# ---- registries ------------------------------------------------------------------------------------------


class Registry:
    """One registry's HTTP API, with the anonymous tokens that public ones ask for."""

    def __init__(self, address):
        if "://" not in address:
            host = re.sub(r":\d+$", "", address)
            loopback = host in ("localhost", "[::1]") or host.startswith("127.")
            address = ("http://" if loopback else "https://") + address
        self.base = address.rstrip("/")
        self.token = None
        direct = urllib.parse.urlsplit(address).scheme == "http"
        self.opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if direct else []))

    def request(self, method, url, headers=None, body=None, accept_missing=False):
        url = urllib.parse.urljoin(self.base + "/", url)
        for attempt in range(1, REQUEST_ATTEMPTS + 1):
            request = urllib.request.Request(url, method=method, headers=dict(headers or {}))
            if self.token:
                request.add_unredirected_header("Authorization", f"Bearer {self.token}")
            request.data = body() if callable(body) else body
            try:
                return self.opener.open(request, timeout=REQUEST_TIMEOUT_S)
            except urllib.error.HTTPError as error:
                if error.code == 401 and not self.token:
                    self.token = self.anonymous_token(error.headers.get("WWW-Authenticate", ""))
                    continue
                if error.code == 404 and accept_missing:
                    return None
                if error.code < 500 or attempt == REQUEST_ATTEMPTS:
                    raise Failure(f"{method} {url}: {error.code} {error.read(500).decode(errors='replace')}") from error
            except OSError as error:
                if attempt == REQUEST_ATTEMPTS:
                    raise Failure(f"{method} {url}: {getattr(error, 'reason', error)}") from error
            time.sleep(attempt)
        raise Failure(f"{method} {url}: not authorized")

    def anonymous_token(self, challenge):
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        if not challenge.startswith("Bearer ") or "realm" not in fields:
            raise Failure(f"{self.base} wants credentials: {challenge or 'no challenge'}")
        query = urllib.parse.urlencode({key: fields[key] for key in ("service", "scope") if key in fields})
        with self.opener.open(f"{fields['realm']}?{query}", timeout=REQUEST_TIMEOUT_S) as response:
            answer = json.loads(response.read(MANIFEST_LIMIT_BYTES))
        return answer.get("token") or answer.get("access_token")


def split_reference(reference):
    """registry.k8s.io/a/b:tag -> registry.k8s.io, a/b, tag."""
    name, _, tag = reference.rpartition(":")
    host, _, repository = name.partition("/")
    return host, repository, tag


def push(options):
    for path in options.archives:
        archive = Archive(path)
        for reference, descriptor in archive.images():
            registry = Registry(options.registry)
            _, repository, tag = split_reference(reference)
            manifest = archive.json(blob_path(descriptor["digest"]))
            for part in [manifest["config"], *manifest["layers"]]:
                push_blob(registry, repository, archive, part)
            content = archive.open(blob_path(descriptor["digest"])).read()
            registry.request("PUT", f"/v2/{repository}/manifests/{tag}",
                             {"Content-Type": descriptor["mediaType"]}, content).close()
            print(f"pushed {repository}:{tag}", flush=True)


def push_blob(registry, repository, archive, part):
    if response := registry.request("HEAD", f"/v2/{repository}/blobs/{part['digest']}", accept_missing=True):
        response.close()
        return
    with registry.request("POST", f"/v2/{repository}/blobs/uploads/", {"Content-Length": "0"}, b"") as response:
        location = response.headers["Location"]
    location += ("&" if "?" in location else "?") + urllib.parse.urlencode({"digest": part["digest"]})
    registry.request("PUT", location,
                     {"Content-Type": "application/octet-stream", "Content-Length": str(part["size"])},
                     lambda: archive.open(blob_path(part["digest"]))).close()


def pull(options):
    host, repository, tag = split_reference(options.reference)
    registry = Registry(host if options.registry == "upstream" else options.registry)
    content, media_type = fetch_manifest(registry, repository, tag)
    manifest = json.loads(content)
    digest, size = sha256_of(io.BytesIO(content))
    if os.path.exists(options.archive):
        try:
            if Archive(options.archive).manifest()[0]["digest"] == digest:
                print(f"{os.path.basename(options.archive)}: up to date")
                return
        except (Failure, ValueError, KeyError, IndexError):
            pass  # A damaged archive is replaced.
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(options.archive))) as directory:
        blobs = {digest: content}
        for part in [manifest["config"], *manifest["layers"]]:
            blobs[part["digest"]] = pull_blob(registry, repository, part, directory)
        descriptor = {"mediaType": media_type, "digest": digest, "size": size}
        references = [options.reference, *options.alias]
        write_archive(options.archive, [(reference, descriptor) for reference in references], blobs)
    print(f"{os.path.basename(options.archive)}: pulled")


def fetch_manifest(registry, repository, reference):
    """The manifest for linux/amd64, whether the registry has one or an index of several."""
    accept = ", ".join((OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST))
    with registry.request("GET", f"/v2/{repository}/manifests/{reference}", {"Accept": accept}) as response:
        content = response.read(MANIFEST_LIMIT_BYTES)
        media_type = response.headers.get_content_type()
    if media_type not in (OCI_INDEX, DOCKER_INDEX):
        return content, media_type
    for entry in json.loads(content)["manifests"]:
        platform = entry.get("platform", {})
        if (platform.get("os"), platform.get("architecture")) == ("linux", "amd64"):
            return fetch_manifest(registry, repository, entry["digest"])
    raise Failure(f"{repository}:{reference} has no image for linux/amd64")


def pull_blob(registry, repository, part, directory):
    path = os.path.join(directory, part["digest"].replace(":", "-"))
    with registry.request("GET", f"/v2/{repository}/blobs/{part['digest']}") as response, open(path, "wb") as out:
        shutil.copyfileobj(response, out, CHUNK_BYTES)
    with open(path, "rb") as stream:
        if sha256_of(stream) != (part["digest"], part["size"]):
            raise Failure(f"{repository}: blob {part['digest']} arrived damaged")
    return path


def tags(options):
    """Tags of a repository, one a line; nothing if the registry does not have it."""
    if response := Registry(options.registry).request("GET", f"/v2/{options.repository}/tags/list", accept_missing=True):
        with response:
            print("\n".join(json.loads(response.read(MANIFEST_LIMIT_BYTES)).get("tags") or []))


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("create", help="an archive from files")
    command.set_defaults(run=create)
    command.add_argument("archive")
    command.add_argument("--reference", action="append", required=True, help="first the name, then aliases")
    command.add_argument("--file", action="append", default=[], metavar="SOURCE:PATH")
    command.add_argument("--program", action="append", default=[], metavar="SOURCE:PATH", help="with its libraries")
    command.add_argument("--capability", action="append", default=[], metavar="PATH=NAME")
    command.add_argument("--bare", action="store_true", help="no /etc and /tmp")
    command.add_argument("--certificates", action="store_true")
    command.add_argument("--entrypoint", nargs=1)
    command.add_argument("--command", nargs=1)
    command.add_argument("--user")

    command = commands.add_parser("verify", help="every digest of archives")
    command.set_defaults(run=verify)
    command.add_argument("archives", nargs="+")

    command = commands.add_parser("extract", help="files at an image's root")
    command.set_defaults(run=extract)
    command.add_argument("archive")
    command.add_argument("directory")
    command.add_argument("names", nargs="+")

    command = commands.add_parser("push", help="archives to a registry")
    command.set_defaults(run=push)
    command.add_argument("registry")
    command.add_argument("archives", nargs="+")

    command = commands.add_parser("pull", help="an archive from a registry, or from `upstream`, the reference's own")
    command.set_defaults(run=pull)
    command.add_argument("registry")
    command.add_argument("reference")
    command.add_argument("archive")
    command.add_argument("--alias", action="append", default=[])

    command = commands.add_parser("tags", help="tags of a repository")
    command.set_defaults(run=tags)
    command.add_argument("registry")
    command.add_argument("repository")
    return parser.parse_args(arguments)


def main():
    options = parse(sys.argv[1:])
    try:
        options.run(options)
    except (Failure, OSError, ValueError) as error:
        sys.exit(f"oci: {error}")


if __name__ == "__main__":
    main()
