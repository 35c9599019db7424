#!/usr/bin/env python3
"""What a tenant's users notice: asks a control plane all the time and counts what fails.

prober.py --kubeconfig FILE --seconds LIMIT [--pod NAME] [--webhook] [--node NAME]

Until SIGTERM or LIMIT, each request on a connection of its own:
  get       30 a second
  write     one update of a ConfigMap after the other, at most 5 a second; what webhooks there are is asked about it
  refused   with --webhook every fifth of them, which a validating webhook must refuse
  exec      with --pod one command after the other in that Pod of the namespace default, with a second between them
  node      with --node one request after the other, at most 5 a second, to that Node's port through its proxy
and on one connection that stays:
  kept      5 a second; counted apart is what every client obeys: a server may answer 429 with Retry-After, or end the
            connection while nothing is under way

Prints a line when it has begun, then counts and what failed, as JSON. The exit status is 1 when anything failed.
"""

import argparse
import asyncio
import base64
import json
import os
import re
import signal
import ssl
import struct
import sys
import tempfile
import time
import urllib.parse

LIMIT_S = 30  # Of one request; slow is not failed.
NODE_LIMIT_S = 90  # Of one that a node with an emulated processor has a part in.
OPEN_LIMIT = 600  # Requests at the same time.
FAILURES_SHOWN = 20
CONFIG_MAP = "/api/v1/namespaces/default/configmaps"
EXEC_WORD = "granite"


class Failed(Exception):
    """A request without the answer that it should have."""


class Server:
    def __init__(self, path):
        # A kubeconfig of ours has each of these once; a YAML parser is not among Python's own modules.
        with open(path, encoding="utf-8") as file:
            text = file.read()

        def field(name):
            return re.search(rf"^\s*-?\s*{name}:\s*\"?([^\s\"]+)\"?\s*$", text, re.MULTILINE).group(1)

        url = urllib.parse.urlparse(field("server"))
        self.host, self.port = url.hostname, url.port or 443
        self.tls = ssl.create_default_context(cadata=base64.b64decode(field("certificate-authority-data")).decode())
        with tempfile.NamedTemporaryFile() as pem:
            pem.write(base64.b64decode(field("client-certificate-data")))
            pem.write(base64.b64decode(field("client-key-data")))
            pem.flush()
            self.tls.load_cert_chain(pem.name)

    async def open(self):
        return await asyncio.open_connection(self.host, self.port, ssl=self.tls)

    def head(self, method, path, headers=()):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", "User-Agent: prober", *headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def read_head(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    return int(lines[0].split()[1]), headers


async def read_body(reader, headers):
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return body
    return await reader.readexactly(int(headers["content-length"]))


async def request(server, method, path, body=None, kind="application/json"):
    """Status and body, on a connection of its own."""
    reader, writer = await server.open()
    try:
        headers = ["Connection: close"]
        data = b""
        if body is not None:
            data = json.dumps(body).encode()
            headers += [f"Content-Type: {kind}", f"Content-Length: {len(data)}"]
        writer.write(server.head(method, path, headers) + data)
        status, answer = await read_head(reader)
        return status, await read_body(reader, answer)
    finally:
        writer.close()


def expect(wanted, status, body):
    if status != wanted:
        raise Failed(f"{status} {body[:300].decode(errors='replace').strip()}")


async def get(server):
    expect(200, *await request(server, "GET", "/api/v1/namespaces/default"))


async def ask_node(server, node):
    expect(200, *await request(server, "GET", f"/api/v1/nodes/{node}/proxy/hostname"))


async def write(server, number):
    body = {"data": {"number": str(number)}}
    expect(200, *await request(server, "PATCH", f"{CONFIG_MAP}/probe", body, "application/merge-patch+json"))


async def refused(server):
    body = {"data": {"webhook-e2e-test": "webhook-disallow"}}
    status, answer = await request(server, "PATCH", f"{CONFIG_MAP}/probe", body, "application/merge-patch+json")
    if status == 200 or b"denied the request" not in answer:
        raise Failed(f"not refused by the webhook: {status} {answer[:300].decode(errors='replace')}")


async def read_frame(reader):
    """Opcode and payload of a WebSocket frame; servers do not mask theirs."""
    first, size = await reader.readexactly(2)
    size &= 0x7F
    if size == 126:
        size = struct.unpack(">H", await reader.readexactly(2))[0]
    elif size == 127:
        size = struct.unpack(">Q", await reader.readexactly(8))[0]
    return first & 0x0F, await reader.readexactly(size)


async def run_command(server, pod):
    """As kubectl does: WebSocket, protocol v5.channel.k8s.io; channel 1 is output, 3 the result."""
    command = "".join("&command=" + word for word in ("/agnhost", "entrypoint-tester", EXEC_WORD))
    path = f"/api/v1/namespaces/default/pods/{pod}/exec?container={pod}&stdout=true{command}"
    reader, writer = await server.open()
    try:
        writer.write(server.head("GET", path, [
            "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: v5.channel.k8s.io",
            "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode()]))
        status, headers = await read_head(reader)
        if status != 101:
            expect(101, status, await read_body(reader, headers))
        output = b""
        while True:
            opcode, payload = await read_frame(reader)
            if opcode == 8:
                raise Failed(f"exec ended without a result: {payload!r}")
            if opcode not in (0, 1, 2) or not payload:
                continue
            if payload[0] == 1:
                output += payload[1:]
            if payload[0] == 3:
                break
        if json.loads(payload[1:])["status"] != "Success" or EXEC_WORD.encode() not in output:
            raise Failed(f"exec: {payload[1:]!r} {output!r}")
    finally:
        writer.close()


class Prober:
    def __init__(self, server, options):
        self.server = server
        self.options = options
        self.ending = asyncio.Event()
        self.counts = {}
        self.slowest = {}
        self.failures = []
        self.tasks = set()
        self.told_to_return = 0

    async def count(self, name, work, limit_s=LIMIT_S):
        began = time.monotonic()
        counts = self.counts.setdefault(name, {"passed": 0, "failed": 0})
        try:
            await asyncio.wait_for(work, limit_s)
            counts["passed"] += 1
        except (Failed, OSError, EOFError, asyncio.TimeoutError, ValueError, KeyError) as error:
            counts["failed"] += 1
            at = time.strftime("%H:%M:%S", time.gmtime())
            self.failures.append(f"{at} {name}: {type(error).__name__} {error}")
        self.slowest[name] = max(self.slowest.get(name, 0), round(time.monotonic() - began, 2))

    async def pause(self, until):
        try:
            await asyncio.wait_for(self.ending.wait(), max(0.0, until - asyncio.get_running_loop().time()))
        except asyncio.TimeoutError:
            pass

    async def at_a_rate(self, name, per_second, make):
        """Open loop: a slow answer delays nobody else's request."""
        due = asyncio.get_running_loop().time()
        while not self.ending.is_set():
            if len(self.tasks) >= OPEN_LIMIT:
                self.failures.append(f"{name}: {OPEN_LIMIT} requests are open")
                self.ending.set()
                return
            task = asyncio.create_task(self.count(name, make(self.server)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            due += 1 / per_second
            await self.pause(due)

    async def writes(self):
        number = 0
        while not self.ending.is_set():
            due = asyncio.get_running_loop().time() + 0.2
            number += 1
            if self.options.webhook and number % 5 == 0:
                await self.count("refused", refused(self.server), NODE_LIMIT_S)
            else:
                await self.count("write", write(self.server, number), NODE_LIMIT_S)
            await self.pause(due)

    async def questions(self):
        while not self.ending.is_set():
            due = asyncio.get_running_loop().time() + 0.2
            await self.count("node", ask_node(self.server, self.options.node))
            await self.pause(due)

    async def commands(self):
        while not self.ending.is_set():
            await self.count("exec", run_command(self.server, self.options.pod), NODE_LIMIT_S)
            await self.pause(asyncio.get_running_loop().time() + 1)

    async def one_kept(self, connection):
        """True when the connection ends with this answer."""
        reader, writer = connection
        writer.write(self.server.head("GET", "/api/v1/namespaces/default"))
        status, headers = await read_head(reader)
        body = await read_body(reader, headers)
        if status == 429 and "retry-after" in headers:
            self.told_to_return += 1
            return True
        expect(200, status, body)
        return headers.get("connection", "") == "close"

    async def kept(self):
        connection = None
        due = asyncio.get_running_loop().time()

        async def once():
            nonlocal connection
            used, connection = connection, None
            if used is not None:
                try:
                    connection = None if await self.one_kept(used) else used
                    return
                except (ConnectionError, asyncio.IncompleteReadError) as error:
                    if getattr(error, "partial", b""):
                        raise
                    self.told_to_return += 1
            used = await self.server.open()
            connection = None if await self.one_kept(used) else used

        while not self.ending.is_set():
            if connection is not None and connection[0].at_eof():
                connection = None
            await self.count("kept", once())
            due += 0.2
            await self.pause(due)

    async def run(self):
        server = self.server
        loops = [self.at_a_rate("get", 30, get), self.writes(), self.kept()]
        if self.options.pod:
            loops.append(self.commands())
        if self.options.node:
            loops.append(self.questions())
        asyncio.get_running_loop().call_later(self.options.seconds, self.ending.set)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.ending.set)
        await request(server, "POST", CONFIG_MAP, {"metadata": {"name": "probe"}})
        await get(server)
        print("probing", flush=True)
        await asyncio.gather(*loops)
        if self.tasks:
            await asyncio.wait(self.tasks)
        print(json.dumps({"counts": self.counts, "slowest_s": self.slowest, "told_to_return": self.told_to_return,
                          "failures": self.failures[:FAILURES_SHOWN]}, indent=1))
        return 1 if self.failures else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--pod")
    parser.add_argument("--node")
    parser.add_argument("--webhook", action="store_true")
    options = parser.parse_args()

    async def probe():
        return await Prober(Server(options.kubeconfig), options).run()

    return asyncio.run(probe())


if __name__ == "__main__":
    sys.exit(main())
