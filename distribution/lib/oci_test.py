#!/usr/bin/env python3
"""What a well-behaved local registry never does to oci.py: tokens, indexes, errors and damage."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import unittest

OCI = os.path.join(os.path.dirname(os.path.abspath(__file__)), "oci.py")
sys.path.insert(0, os.path.dirname(OCI))
sys.dont_write_bytecode = True
import oci  # noqa: E402


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


class FakeRegistry(http.server.BaseHTTPRequestHandler):
    """Wants an anonymous token, offers an index of two platforms, fails once with 503 per blob."""

    def log_message(self, *_):
        pass

    def answer(self, code, body=b"", headers=None):
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        world = self.server.world
        if self.path.startswith("/token?"):
            world["token_queries"].append(self.path)
            return self.answer(200, b'{"token": "abc"}')
        if self.headers.get("Authorization") != "Bearer abc":
            realm = f'http://127.0.0.1:{self.server.server_port}/token'
            return self.answer(401, headers={
                "WWW-Authenticate": f'Bearer realm="{realm}",service="reg",scope="repository:a/b:pull"'})
        if self.path in world["fail_once"]:
            world["fail_once"].remove(self.path)
            return self.answer(503, b"busy")
        if self.path not in world["pages"]:
            return self.answer(404, b"no such thing")
        media_type, body = world["pages"][self.path]
        return self.answer(200, body, {"Content-Type": media_type})


class PullTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.archive = os.path.join(self.directory.name, "image.tar")
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeRegistry)
        self.server.world = self.world = {"token_queries": [], "fail_once": [], "pages": {}}
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        layer = b"not really a tar" * 100
        config = json.dumps({"rootfs": {"diff_ids": [digest(layer)]}}).encode()
        manifest = json.dumps({"config": {"digest": digest(config), "size": len(config)},
                               "layers": [{"digest": digest(layer), "size": len(layer)}]}).encode()
        index = json.dumps({"manifests": [
            {"digest": "sha256:0", "platform": {"os": "linux", "architecture": "arm64"}},
            {"digest": digest(manifest), "platform": {"os": "linux", "architecture": "amd64"}}]}).encode()
        self.layer_page = f"/v2/a/b/blobs/{digest(layer)}"
        self.world["pages"] = {
            "/v2/a/b/manifests/1": (oci.OCI_INDEX, index),
            f"/v2/a/b/manifests/{digest(manifest)}": (oci.DOCKER_MANIFEST, manifest),
            f"/v2/a/b/blobs/{digest(config)}": ("application/octet-stream", config),
            self.layer_page: ("application/octet-stream", layer),
        }

    def tearDown(self):
        self.server.shutdown()
        self.server.server_close()
        self.directory.cleanup()

    def run_oci(self, *arguments):
        return subprocess.run([sys.executable, OCI, *arguments], capture_output=True, text=True, timeout=60, check=False)

    def pull(self, reference="example.org/a/b:1"):
        return self.run_oci("pull", f"127.0.0.1:{self.server.server_port}", reference, self.archive)

    def test_token_index_and_retry(self):
        self.world["fail_once"].append(self.layer_page)
        result = self.pull()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("service=reg&scope=repository%3Aa%2Fb%3Apull", self.world["token_queries"][0])
        self.assertEqual(self.world["fail_once"], [])
        verified = self.run_oci("verify", self.archive)
        self.assertEqual(verified.stdout, "image.tar: example.org/a/b:1\n", verified.stderr)

    def test_up_to_date(self):
        self.pull()
        before = os.stat(self.archive).st_ino
        self.assertIn("up to date", self.pull().stdout)
        self.assertEqual(os.stat(self.archive).st_ino, before)

    def test_damaged_archive_is_replaced(self):
        with open(self.archive, "w", encoding="utf-8") as out:
            out.write("half")
        self.assertEqual(self.pull().returncode, 0)
        self.assertEqual(self.run_oci("verify", self.archive).returncode, 0)

    def test_damaged_blob(self):
        media_type, body = self.world["pages"][self.layer_page]
        self.world["pages"][self.layer_page] = (media_type, body[:-1] + b"X")
        result = self.pull()
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("arrived damaged", result.stderr)
        self.assertEqual(os.listdir(self.directory.name), [])

    def test_missing(self):
        result = self.pull("example.org/a/c:1")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("404", result.stderr)
        self.assertNotIn("Traceback", result.stderr)


class ReferenceTest(unittest.TestCase):
    def test_split(self):
        self.assertEqual(oci.split_reference("registry.k8s.io/coredns/coredns:v1"),
                         ("registry.k8s.io", "coredns/coredns", "v1"))

    def test_scheme(self):
        self.assertEqual(oci.Registry("127.0.0.1:5000").base, "http://127.0.0.1:5000")
        self.assertEqual(oci.Registry("registry.k8s.io").base, "https://registry.k8s.io")
        self.assertEqual(oci.Registry("http://10.0.0.1:5000").base, "http://10.0.0.1:5000")

    def test_capability(self):
        self.assertEqual(oci.capability_xattr("net_bind_service").encode().hex(),
                         "0100000200040000" + "00" * 12)


if __name__ == "__main__":
    unittest.main()
