"""Starts the real runner with the real components over the mock upstream, on free ports."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The build that is tested: spin.toml is WASI 0.3, spin-wasi02.toml WASI 0.2.
MANIFEST = ROOT / os.environ.get("KEYSTORM_MANIFEST", "spin.toml")
RELEASE = ROOT / "target" / "release"
ACCESS_KEY = "client-access-key"
ADMIN_KEY = "administrator-key"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def call(method, url, body=None, headers=None):
    """One HTTP call: the status, the headers and the body as JSON, or as text where it is none."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    if data is not None:
        request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            status, got, text = answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        status, got, text = error.code, dict(error.headers), error.read().decode()
    try:
        return status, got, json.loads(text)
    except json.JSONDecodeError:
        return status, got, text


def eventually(condition, seconds=20):
    """How long it took until a condition held: what is counted is written a moment later, and on a busy machine later still."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it never held"
        time.sleep(0.02)
    return time.monotonic() - started


def wait_for(url):
    for _ in range(150):
        try:
            if call("GET", url)[0] < 500:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{url} did not answer")


class Upstream:
    """The mock upstream."""

    def __init__(self):
        self.url = f"http://127.0.0.1:{free_port()}"
        self.process = subprocess.Popen([RELEASE / "mock-upstream", self.url.removeprefix("http://")])
        wait_for(f"{self.url}/__calls")

    def fault(self, **faults):
        call("POST", f"{self.url}/__faults", {key.replace("_", "-"): fault for key, fault in faults.items()})

    def calls(self):
        return call("GET", f"{self.url}/__calls")[2]

    def stop(self):
        self.process.kill()
        self.process.wait()


class KeyStorm:
    """A KeyStorm over a mock upstream."""

    def __init__(self, upstream, state, runtime_config=None, listen="127.0.0.1", **variables):
        self.upstream, self.state, self.runtime_config, self.listen = upstream, state, runtime_config, listen
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.variables = {
            "auth_key": ACCESS_KEY,
            "home_access_key": ADMIN_KEY,
            "openai_base_url": f"{upstream.url}/v1",
            "gemini_base_url": upstream.url,
            "pool_ttl_ms": "100",
            # What is looked at again unasked would be counted too.
            "recheck_interval_s": "0",
            **variables,
        }
        self.process = None
        self.log = pathlib.Path(f"{state}.log")
        self.start()

    def start(self, *flags, **how):
        # Through the environment: a command line can be read by everybody on the machine.
        environment = {**os.environ, **{f"SPIN_VARIABLE_{name.upper()}": value for name, value in self.variables.items()}}
        command = [RELEASE / "keystorm-runner", "up", "--from", MANIFEST, "--listen", f"{self.listen}:{self.port}", "--state-dir", self.state, *flags]
        if self.runtime_config:
            command += ["--runtime-config-file", self.runtime_config]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, **how)
        wait_for(f"{self.url}/.well-known/spin/health")

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(timeout=30)

    def admin(self, method, path, body=None):
        return call(method, f"{self.url}{path}", body, {"authorization": f"Bearer {ADMIN_KEY}"})

    def add(self, *keys, **more):
        status, _, answer = self.admin("POST", "/api/keys", {"keys": list(keys), "apiType": "openai", **more})
        assert status == 200, answer
        return answer

    def counted(self):
        """How many upstream calls are counted of the keys on the first page."""
        return sum(key["requests"] for key in self.admin("GET", "/api/keys?mask=true")[2]["keys"])

    def client(self, method, path, body=None, key=ACCESS_KEY):
        return call(method, f"{self.url}{path}", body, {"authorization": f"Bearer {key}"})


@pytest.fixture
def upstream():
    upstream = Upstream()
    yield upstream
    upstream.stop()


@pytest.fixture
def keystorm(upstream, tmp_path):
    keystorm = KeyStorm(upstream, tmp_path / "state")
    yield keystorm
    if keystorm.process.poll() is None:
        keystorm.stop()
