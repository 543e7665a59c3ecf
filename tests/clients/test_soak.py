"""Mixed traffic with faults for a while: two minutes by default, half an hour with `make soak`."""

import os
import subprocess

from conftest import ACCESS_KEY, ADMIN_KEY, RELEASE, KeyStorm, free_port, wait_for

SECONDS = os.environ.get("SOAK_SECONDS", "80")
STREAMS = os.environ.get("SOAK_STREAMS", "200")
STREAM_SECONDS = os.environ.get("SOAK_STREAM_SECONDS", "10")


def test_it_keeps_working(upstream, tmp_path):
    port = free_port()
    load = subprocess.Popen([RELEASE / "load-upstream", f"127.0.0.1:{port}"])
    keystorm = KeyStorm(upstream, tmp_path / "state", allow_private_endpoints="true", pool_ttl_ms="1000")
    try:
        wait_for(f"http://127.0.0.1:{port}/v1/models")
        keystorm.add(*[f"sk-long-{number:016}" for number in range(20)], group="long", customEndpoint=f"http://127.0.0.1:{port}/v1")
        command = [RELEASE / "soak", "--target", f"127.0.0.1:{keystorm.port}", "--upstream", upstream.url.removeprefix("http://"), "--pid", str(keystorm.process.pid), "--seconds", SECONDS, "--streams", STREAMS, "--stream-seconds", STREAM_SECONDS]
        environment = {**os.environ, "SOAK_ACCESS_KEY": ACCESS_KEY, "SOAK_ADMIN_KEY": ADMIN_KEY}
        assert subprocess.run(command, env=environment, check=False).returncode == 0, "what the soak printed says why"
        log = keystorm.log.read_text()
        assert "An instance has failed" not in log and "panicked" not in log, log[-3000:]
    finally:
        keystorm.stop()
        load.kill()
        load.wait()
