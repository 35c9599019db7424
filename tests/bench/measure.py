"""What the benchmarks of whole control planes share: a small client of the Kubernetes API, servers started by
hand, CPU and memory of processes, and the report. Only ratios of one run are judged; times are printed."""
import base64
import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import statistics
import subprocess
import tempfile
import time
import urllib.parse

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
IDLE_LIMIT_S = 30
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGESIZE")
POLL_S = 0.02
CORES = len(os.sched_getaffinity(0))


class Report:
    """Prints figures as they come; remembers what is over its limit."""

    def __init__(self):
        self.failures = []

    def say(self, text):
        print(text, flush=True)

    def judge(self, name, value, limit, unit=""):
        good = value <= limit
        if not good:
            self.failures.append(name)
        self.say(f"  {name}: {value:.2f}{unit} (limit {limit:g}{unit}) {'ok' if good else 'FAILED'}")

    def finish(self):
        if self.failures:
            self.say(f"FAILED: {', '.join(self.failures)}")
        return 1 if self.failures else 0


def spread(values):
    """ "2.10 s (2.05-2.31, 5 runs)": the median, and between what."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f}-{max(values):.2f}, {len(values)} runs)"


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def wait_for(seconds, what, condition, poll_s=POLL_S):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(poll_s)


class ApiError(Exception):
    def __init__(self, status, text):
        super().__init__(f"{status}: {text[:500]}")
        self.status = status


class Kube:
    """One connection with a client certificate. Not for several threads."""

    def __init__(self, kubeconfig_text, timeout_s=20):
        config = yaml.safe_load(kubeconfig_text)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        server = urllib.parse.urlsplit(cluster["server"])
        self.host, self.port, self.timeout_s = server.hostname, server.port or 443, timeout_s
        self.tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as file:
            file.write(base64.b64decode(user["client-certificate-data"]) + b"\n" +
                       base64.b64decode(user["client-key-data"]))
            file.flush()
            self.tls.load_cert_chain(file.name)
        self.connection, self.last_use = None, 0.0

    def connect(self):
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout_s, context=self.tls)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def request(self, method, path, body=None, kind="application/json", raw=False):
        # One that was idle for long may be closed by the server in the moment in which it is used.
        if time.monotonic() - self.last_use > IDLE_LIMIT_S:
            self.close()
        if self.connection is None:
            self.connection = self.connect()
        text = None if body is None else json.dumps(body)
        try:
            self.connection.request(method, path, text, {"Content-Type": kind, "Accept": "application/json"})
            response = self.connection.getresponse()
            answer = response.read().decode()
            self.last_use = time.monotonic()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if response.status >= 300:
            raise ApiError(response.status, answer)
        return answer if raw else json.loads(answer)

    def get(self, path):
        return self.request("GET", path)

    def find(self, path):
        """None when there is none."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def post(self, path, body):
        return self.request("POST", path, body)

    def delete(self, path):
        with contextlib.suppress(ApiError):
            self.request("DELETE", path)

    def merge(self, path, body):
        return self.request("PATCH", path, body, "application/merge-patch+json")

    def watch(self, path):
        """Events, on a connection of their own; ends after ten minutes."""
        connection = self.connect()
        try:
            connection.request("GET", f"{path}{'&' if '?' in path else '?'}watch=1&timeoutSeconds=600")
            response = connection.getresponse()
            while line := response.readline():
                yield json.loads(line)
        finally:
            connection.close()


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def machine_cpu_seconds():
    """What all cores were busy with since the boot, waiting for disks left out."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _wait, interrupts, soft, _steal = map(int, fields)
    return (user + nice + system + interrupts + soft) / TICKS


def cpu_by_program():
    """Name of the program -> CPU seconds of its processes that live."""
    sums = {}
    for directory in pathlib.Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                name, rest = (directory / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
                fields = rest.split()
                sums[name] = sums.get(name, 0) + sum(map(int, fields[11:13])) / TICKS
            except OSError:
                continue
    return sums


def resident_megabytes(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[21]) * PAGE / 1e6


def process_of_pod(uid, program):
    """The process of a program in a Pod on this machine."""
    marks = (uid, uid.replace("-", "_"))
    for directory in pathlib.Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            argv = (directory / "cmdline").read_bytes().split(b"\0")
            if not argv[0].decode().endswith(program):
                continue
            if any(mark in (directory / "cgroup").read_text() for mark in marks):
                return int(directory.name)
        except OSError:
            continue
    raise RuntimeError(f"no process {program} in Pod {uid}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Bare:
    """kube-apiserver (and controller manager and scheduler) of one version, on loopback, with an etcd of their own
    and nothing else: what a start costs without us."""

    def __init__(self, minor):
        self.work = tempfile.TemporaryDirectory(prefix="bare-")
        self.dir = pathlib.Path(self.work.name)
        self.binaries = pathlib.Path(run(ROOT / "distribution/build", "binaries", minor).strip())
        self.etcd_binaries = pathlib.Path(run(ROOT / "distribution/build", "binaries", "etcd").strip())
        self.processes = {}
        self.make_certificates()

    def openssl(self, *arguments):
        run("openssl", *arguments, cwd=self.dir)

    def make_key(self, name):
        self.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")

    def make_certificates(self):
        for name in ("ca", "server", "admin", "sa"):
            self.make_key(name)
        self.openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=bare", "-days", "2", "-out", "ca.crt")
        for name, subject, extension in (
                ("server", "/CN=server", "subjectAltName=IP:127.0.0.1"),
                ("admin", "/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth")):
            self.openssl("req", "-new", "-key", f"{name}.key", "-subj", subject, "-addext", extension, "-out", f"{name}.csr")
            self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                         "-days", "2", "-copy_extensions", "copy", "-out", f"{name}.crt")

    def kubeconfig(self, port):
        data = {key: base64.b64encode((self.dir / name).read_bytes()).decode()
                for key, name in (("ca", "ca.crt"), ("certificate", "admin.crt"), ("key", "admin.key"))}
        return yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "bare",
            "clusters": [{"name": "bare", "cluster": {"server": f"https://127.0.0.1:{port}",
                                                      "certificate-authority-data": data["ca"]}}],
            "users": [{"name": "bare", "user": {"client-certificate-data": data["certificate"],
                                                "client-key-data": data["key"]}}],
            "contexts": [{"name": "bare", "context": {"cluster": "bare", "user": "bare"}}]})

    def spawn(self, name, program, *arguments):
        log = open(self.dir / f"{name}.log", "wb")
        self.processes[name] = subprocess.Popen([str(program), *arguments], stdout=log, stderr=log, cwd=self.dir)
        log.close()

    def start_etcd(self):
        client, peer = free_port(), free_port()
        directory = tempfile.mkdtemp(dir=self.dir)
        self.spawn("etcd", self.etcd_binaries / "etcd", "--data-dir", directory, "--log-level", "error",
                   "--listen-client-urls", f"http://127.0.0.1:{client}",
                   "--advertise-client-urls", f"http://127.0.0.1:{client}",
                   "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                   "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
                   "--initial-cluster", f"default=http://127.0.0.1:{peer}")

        def healthy():
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", client, timeout=2)
                connection.request("GET", "/health")
                return connection.getresponse().status == 200
            return False
        wait_for(30, "etcd", healthy)
        return client

    def start_api_server(self):
        """Seconds from its start to a good /readyz, on an empty etcd that runs already."""
        etcd, port = self.start_etcd(), free_port()
        began = time.monotonic()
        self.spawn("kube-apiserver", self.binaries / "kube-apiserver",
                   "--etcd-servers", f"http://127.0.0.1:{etcd}", "--bind-address", "127.0.0.1",
                   "--secure-port", str(port), "--tls-cert-file", "server.crt", "--tls-private-key-file", "server.key",
                   "--client-ca-file", "ca.crt", "--authorization-mode", "Node,RBAC",
                   "--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", "sa.key",
                   "--service-account-signing-key-file", "sa.key", "--service-cluster-ip-range", "10.96.0.0/16")
        self.api = Kube(self.kubeconfig(port))

        def ready():
            with contextlib.suppress(OSError, ApiError, http.client.HTTPException):
                return self.api.request("GET", "/readyz", raw=True) == "ok"
            return False
        wait_for(60, "kube-apiserver", ready)
        took = time.monotonic() - began
        (self.dir / "admin.conf").write_text(self.kubeconfig(port))
        return took

    def start_companions(self):
        """Controller manager and scheduler, until both lead."""
        common = ["--kubeconfig", "admin.conf", "--authentication-kubeconfig", "admin.conf",
                  "--authorization-kubeconfig", "admin.conf", "--bind-address", "127.0.0.1"]
        self.spawn("kube-controller-manager", self.binaries / "kube-controller-manager", *common,
                   "--secure-port", str(free_port()), "--root-ca-file", "ca.crt",
                   "--cluster-signing-cert-file", "ca.crt", "--cluster-signing-key-file", "ca.key",
                   "--service-account-private-key-file", "sa.key", "--use-service-account-credentials",
                   "--controllers", "*,bootstrapsigner,tokencleaner", "--kube-api-qps", "50", "--kube-api-burst", "200")
        self.spawn("kube-scheduler", self.binaries / "kube-scheduler", *common, "--secure-port", str(free_port()))
        for name in ("kube-controller-manager", "kube-scheduler"):
            path = f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{name}"
            wait_for(60, f"{name} leads", lambda path=path: (self.api.find(path) or {}).get("spec", {}).get("holderIdentity"))

    def sign_token(self):
        """Until the controller manager has signed cluster-info for a bootstrap token: then nodes can join, which is
        what Ready means for a control plane."""
        self.api.post("/api/v1/namespaces/kube-system/secrets", {
            "metadata": {"name": "bootstrap-token-benchm"}, "type": "bootstrap.kubernetes.io/token",
            "stringData": {"token-id": "benchm", "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true",
                           "usage-bootstrap-authentication": "true"}})
        info = "/api/v1/namespaces/kube-public/configmaps"
        self.api.post(info, {"metadata": {"name": "cluster-info"}, "data": {"kubeconfig": "of no use"}})
        wait_for(60, "a signed cluster-info", lambda: "jws-kubeconfig-benchm" in self.api.get(f"{info}/cluster-info")["data"])

    def cpu(self, *names):
        return sum(cpu_seconds(self.processes[name].pid) for name in names)

    def stop(self):
        for process in reversed(self.processes.values()):
            process.send_signal(signal.SIGKILL)
            process.wait()
        self.processes = {}

    def close(self):
        self.stop()
        self.work.cleanup()
