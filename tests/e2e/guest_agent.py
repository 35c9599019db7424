#!/usr/bin/env python3
"""Commands for a test machine through QEMU's guest agent, the channel that clouds use.

guest_agent.py DIRECTORY wait SECONDS
guest_agent.py DIRECTORY exec COMMAND…      the command's output and exit status
guest_agent.py DIRECTORY put PATH           a file from standard input
"""

import base64
import fcntl
import json
import os
import random
import select
import socket
import sys
import time

EXEC_SECONDS = int(os.environ.get("BASALT_VM_EXEC_SECONDS", "300"))
ANSWER_SECONDS = 20
POLL_SECONDS = 0.1


class Agent:
    """One connection; another process that wants one waits for the lock."""

    def __init__(self, directory):
        self.lock = open(os.path.join(directory, "agent.lock"), "w", encoding="utf-8")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.path.join(directory, "agent"))
        self.buffer = b""

    def line(self, seconds):
        deadline = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            if not select.select([self.socket], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the machine's agent does not answer")
            data = self.socket.recv(1 << 20)
            if not data:
                raise ConnectionError("the machine is gone")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line

    def send(self, command, arguments=None):
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def synchronize(self, seconds):
        """Drops answers to what others asked; True when the agent lives."""
        number = random.getrandbits(31)
        self.socket.sendall(b"\xff")
        self.send("guest-sync-delimited", {"id": number})
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                line = self.line(left)
                if b"\xff" in line and json.loads(line.rpartition(b"\xff")[2]).get("return") == number:
                    return True
        except (TimeoutError, ValueError):
            pass
        return False

    def call(self, command, arguments):
        self.send(command, arguments)
        answer = json.loads(self.line(ANSWER_SECONDS))
        if "return" not in answer:
            raise RuntimeError(answer.get("error", {}).get("desc", "no answer"))
        return answer["return"]


def wait(directory, seconds):
    agent = Agent(directory)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if agent.synchronize(1):
            return 0
    return 1


def run(directory, arguments, given=b""):
    agent = Agent(directory)
    if not agent.synchronize(ANSWER_SECONDS):
        raise TimeoutError("the machine's agent does not answer")
    pid = agent.call("guest-exec", {"path": arguments[0], "arg": arguments[1:], "capture-output": True,
                                    "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
                                    "input-data": base64.b64encode(given).decode()})["pid"]
    deadline = time.monotonic() + EXEC_SECONDS
    while True:
        status = agent.call("guest-exec-status", {"pid": pid})
        if status["exited"]:
            break
        if time.monotonic() > deadline:
            raise TimeoutError(f"{arguments[0]} did not end in {EXEC_SECONDS} s")
        select.select([], [], [], POLL_SECONDS)
    sys.stdout.buffer.write(base64.b64decode(status.get("out-data", "")))
    sys.stderr.buffer.write(base64.b64decode(status.get("err-data", "")))
    return status.get("exitcode", 128 + status.get("signal", 0))


def main():
    directory, command, *arguments = sys.argv[1:]
    try:
        if command == "wait":
            return wait(directory, float(arguments[0]))
        if command == "put":
            script = 'mkdir -p "$(dirname "$1")" && cat >"$1"'
            return run(directory, ["/bin/sh", "-c", script, "sh", arguments[0]], sys.stdin.buffer.read())
        return run(directory, ["/usr/bin/env", *arguments])
    except (OSError, RuntimeError) as error:
        print(f"guest agent: {error}", file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
