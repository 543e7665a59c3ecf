"""The running system against its own description, by schemathesis."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from conftest import ACCESS_KEY, ADMIN_KEY, call

HERE = pathlib.Path(__file__).parent
# Wrong credentials are throttled, by design, and that locks the tester out: who comes in is tested below.
EXCLUDED = "ignored_auth"
# Whether a client's request makes sense, and what a deletion deletes, is the provider's to say.
OF_PROVIDERS = f"{EXCLUDED},positive_data_acceptance,use_after_free"


def schemathesis(keystorm, tmp_path, key, *options, excluded=EXCLUDED):
    # The description is the administrator's to read: it is handed over as a file.
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(keystorm.admin("GET", "/api/openapi.json")[2]))
    command = [
        pathlib.Path(sys.executable).with_name("schemathesis"), "run", description,
        "--url", keystorm.url, "--header", f"Authorization: Bearer {key}", "--exclude-checks", excluded,
        "--generation-deterministic", "--no-color", "--continue-on-failure", *options,
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(HERE)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    summary = done.stdout[done.stdout.find("= SUMMARY ="):]
    print(summary)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    return int(re.search(r"(\d+) generated", summary).group(1))


@pytest.fixture
def keystorm_alone(keystorm):
    """One that asks nobody outside of this machine."""
    keystorm.stop()
    keystorm.variables["egress_trace_url"] = "off"
    keystorm.start()
    keystorm.add("sk-good-0000000000000001", "sk-dead-000000000000000003")
    keystorm.add("AIza" + "0" * 35, apiType="gemini")
    return keystorm


def test_the_administrators_side_is_as_described(keystorm_alone, tmp_path):
    # Signing in is a matter of wrong keys: see test_service.py.
    generated = schemathesis(
        keystorm_alone, tmp_path, ADMIN_KEY, "--include-path-regex", "^/(api|healthz|readyz|metrics)",
        "--exclude-path", "/api/login", "--exclude-path", "/api/logout", "--max-examples", "40",
    )
    assert generated > 1000


def test_the_clients_side_is_as_described(keystorm_alone, tmp_path):
    generated = schemathesis(
        keystorm_alone, tmp_path, ACCESS_KEY, "--include-path-regex", "^/v1", "--max-examples", "20", excluded=OF_PROVIDERS,
    )
    assert generated > 200


def test_every_route_of_the_administrator_asks_for_a_credential(keystorm):
    paths = keystorm.admin("GET", "/api/openapi.json")[2]["paths"]
    asked = 0
    for path, operations in paths.items():
        for method, operation in operations.items():
            if not operation["security"]:
                continue
            status, _, answer = call(method.upper(), f"{keystorm.url}{path.replace('{id}', '1').replace('{model}', 'm')}")
            assert status == 401, (method, path, status)
            assert "error" in answer
            asked += 1
    assert asked > 25


def test_a_wrong_credential_is_refused_everywhere(keystorm):
    paths = keystorm.admin("GET", "/api/openapi.json")[2]["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            if operation["security"]:
                status = call(method.upper(), f"{keystorm.url}{path.replace('{id}', '1')}", headers={"authorization": "Bearer wrong"})[0]
                # From the sixth on this address has to wait.
                assert status in (401, 429), (method, path, status)
