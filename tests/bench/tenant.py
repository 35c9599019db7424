"""What belongs to a tenant while a benchmark runs: users who ask all the time, and a worker."""
import base64
import json
import pathlib
import subprocess
import tempfile

import yaml

from measure import ROOT, ApiError, run, wait_for


class Users:
    """What a tenant's users do all the time: tests/e2e/prober.py, from its first answers until stop(). For `with`."""

    def __init__(self, kubeconfig, *arguments):
        self.process = subprocess.Popen([ROOT / "tests/e2e/prober.py", "--kubeconfig", kubeconfig, "--seconds", "600", *arguments],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if (line := self.process.stdout.readline()) != "probing\n":
            raise RuntimeError(f"the prober did not begin: {line}{self.process.communicate()[0]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Counts by kind of request, the slowest of each in seconds, and what failed (not all of it, when it is much)."""
        self.process.terminate()
        found = json.loads(self.process.communicate()[0])
        return found["counts"], found["slowest_s"], found["failures"]


class Worker:
    """A second node of a local cluster that works for a tenant instead: its kubelet and its Pods are dialled through the
    tunnel. It runs one Pod "user", for exec and as the server of a validating webhook."""

    PATCHES = [{"op": "add", "path": path, "value": value} for path, value in (
        ("/cgroupDriver", "cgroupfs"), ("/failCgroupV1", False), ("/failSwapOn", False),
        ("/volumePluginDir", "/var/lib/kubelet/volume-plugins"),
        ("/evictionHard", {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"}))]

    def __init__(self, basalt, cluster, management):
        self.basalt, self.cluster, self.name = basalt, cluster, f"{cluster}-2"
        run(basalt, "up", "--name", cluster, "--nodes", "2")
        node = management.get(f"/api/v1/nodes/{self.name}")
        self.address = next(each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP")
        words = [line.split() for line in run(basalt, "status", "--name", cluster).splitlines()]
        images = ROOT / "tests/e2e/images.sh"
        run(images, "build")
        run(images, "push", next(line[1] for line in words if line[:1] == ["registry"]))
        self.image = run(images, "agnhost").strip()
        self.leave()
        management.delete(f"/api/v1/nodes/{self.name}")
        # Nobody there ends them any more.
        for pod in management.get(f"/api/v1/pods?fieldSelector=spec.nodeName={self.name}")["items"]:
            meta = pod["metadata"]
            management.delete(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}?gracePeriodSeconds=0")

    def inside(self, *command):
        return run(self.basalt, "nodes", "--name", self.cluster, "exec", "2", "--", *command)

    def leave(self):
        # Without its configuration the kubelet is not started again.
        self.inside("sh", "-c", "rm -f /var/lib/kubelet/config.yaml; pkill -x kubelet || true")
        self.inside("kubeadm", "reset", "--force")
        self.inside("find", "/etc/kubernetes", "-type", "f", "-delete")

    def join(self, tenant, kubeconfig, kubeadm):
        """`tenant` is of `kubeconfig`, a file. Until the Pod answers as a webhook and to exec."""
        command = run(kubeadm, "token", "create", "--kubeconfig", kubeconfig, "--print-join-command").split()
        # What the node is made of differs from what kubeadm expects of a machine.
        self.inside(*command, "--ignore-preflight-errors=all")
        with tempfile.TemporaryDirectory() as directory:
            run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", "/CN=user", "-addext", f"subjectAltName=IP:{self.address}", "-keyout", "tls.key", "-out", "tls.crt",
                cwd=directory)
            data = {name: base64.b64encode((pathlib.Path(directory) / name).read_bytes()).decode() for name in ("tls.key", "tls.crt")}
        tenant.post("/api/v1/namespaces/default/secrets", {"metadata": {"name": "user"}, "type": "kubernetes.io/tls", "data": data})
        pod = "/api/v1/namespaces/default/pods"
        tenant.post(pod, {"metadata": {"name": "user"}, "spec": {
            "hostNetwork": True, "nodeName": self.name,
            "volumes": [{"name": "tls", "secret": {"secretName": "user"}}],
            "containers": [{"name": "user", "image": self.image, "args": [
                "webhook", "--tls-cert-file=/tls/tls.crt", "--tls-private-key-file=/tls/tls.key", "--port=8444"],
                "volumeMounts": [{"name": "tls", "mountPath": "/tls", "readOnly": True}],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8444, "scheme": "HTTPS"}, "periodSeconds": 1}}]}})
        wait_for(120, "the worker's Pod", lambda: any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in tenant.get(f"{pod}/user")["status"].get("conditions", [])), 0.2)
        text = (ROOT / "tests/e2e/manifests/webhook-configuration.yaml").read_text()
        hook = yaml.safe_load(text.replace("${CA_BUNDLE}", data["tls.crt"]))
        hook["webhooks"][0]["clientConfig"] = {"url": f"https://{self.address}:8444/configmaps", "caBundle": data["tls.crt"]}
        tenant.post("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", hook)
        wait_for(60, "a refusal by the webhook", lambda: self.refuses(tenant), 0.2)

    def refuses(self, tenant):
        try:
            tenant.post("/api/v1/namespaces/default/configmaps?dryRun=All", {
                "metadata": {"name": "refused"}, "data": {"webhook-e2e-test": "webhook-disallow"}})
        except ApiError as error:
            return "denied the request" in str(error)
        return False
