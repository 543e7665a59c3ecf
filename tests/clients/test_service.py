"""KeyStorm as a service: restarts, two processes on one state, credentials, and secrets that stay secret."""

import signal
import time

from conftest import ACCESS_KEY, ADMIN_KEY, KeyStorm, call, eventually

GOOD = "sk-good-0000000000000001"
CHAT = {"model": "mock-large", "messages": [{"role": "user", "content": "hello"}]}


def test_keys_survive_a_restart_and_a_kill(keystorm):
    keystorm.add(GOOD, "sk-other-000000000000002")
    assert keystorm.stop() == 0
    keystorm.start()
    assert keystorm.admin("GET", "/api/keys")[2]["total"] == 2
    keystorm.stop(signal.SIGKILL)
    keystorm.start()
    assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200


def test_two_processes_on_one_state(keystorm, upstream):
    other = KeyStorm(upstream, keystorm.state)
    try:
        for number in range(20):
            one = keystorm if number % 2 else other
            one.add(f"sk-shared-00000000000000{number:02}")
        for service in (keystorm, other):
            assert service.admin("GET", "/api/keys")[2]["total"] == 20
        time.sleep(0.2)
        for _ in range(10):
            assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
            assert other.client("POST", "/v1/chat/completions", CHAT)[0] == 200
        eventually(lambda: keystorm.counted() >= 20)
        assert keystorm.counted() == sum(upstream.calls().values()) == 20
    finally:
        other.stop()


def test_adding_finding_and_deleting(keystorm):
    answer = keystorm.add(GOOD, GOOD, "", "with blank", customEndpoint="https://api.example.com/v1/", group="g", note="<b>n</b>")
    assert (answer["added"], answer["duplicates"], len(answer["invalid"])) == (1, 1, 2)
    assert keystorm.add(GOOD, customEndpoint="https://API.example.com/v1", group="g")["duplicates"] == 1
    assert keystorm.add(GOOD)["added"] == 1, "the same key at another endpoint is another key"
    _, _, listed = keystorm.admin("GET", "/api/keys?group=g")
    assert [key["customEndpoint"] for key in listed["keys"]] == ["https://api.example.com/v1"]
    assert keystorm.admin("GET", "/api/keys?mask=true")[2]["keys"][0].get("api_key") is None
    for bad in ({"keys": ["x"], "apiType": "other"}, {"keys": ["x"], "customEndpoint": "http://169.254.169.254/"}, {"keys": "x"}, {}):
        status, _, error = keystorm.admin("POST", "/api/keys", bad)
        assert status == 400 and error["error"]["message"], bad
    assert keystorm.admin("PATCH", "/api/keys", {"filter": {"group": "g"}, "set": {"enabled": False}})[2]["changed"] == 1
    assert keystorm.admin("GET", "/api/keys?status=disabled")[2]["total"] == 1
    assert keystorm.admin("DELETE", "/api/keys", {"keys": [GOOD]})[2]["deleted"] == 2
    assert keystorm.admin("GET", "/api/keys")[2]["total"] == 0


def test_ten_thousand_keys_in_one_call(keystorm):
    keys = [f"sk-bulk-{number:020}" for number in range(10_000)]
    started = time.monotonic()
    assert keystorm.add(*keys)["added"] == 10_000
    assert time.monotonic() - started < 30
    assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200


def test_the_published_defaults_serve_this_machine_alone(upstream, tmp_path):
    keystorm = KeyStorm(upstream, tmp_path / "defaults", auth_key="", home_access_key="")
    try:
        headers = {"authorization": "Bearer yCENzh"}
        assert call("GET", f"{keystorm.url}/v1/models", headers=headers)[0] == 503
        status, _, error = call("GET", f"{keystorm.url}/v1/models", headers={**headers, "x-forwarded-for": "192.0.2.1"})
        assert (status, error["error"]["code"]) == (403, "default_credentials")
    finally:
        keystorm.stop()


def test_wrong_variables_are_told_all_at_once(upstream, tmp_path):
    keystorm = KeyStorm(upstream, tmp_path / "wrong", max_attempts="many", selection="best")
    try:
        status, _, error = keystorm.client("GET", "/v1/models")
        assert (status, error["error"]["code"]) == (503, "misconfigured")
        assert "max_attempts" in error["error"]["message"] and "selection" in error["error"]["message"]
    finally:
        keystorm.stop()


def test_signing_in_and_its_throttle(keystorm):
    status, headers, _ = call("POST", f"{keystorm.url}/api/login", {"key": ADMIN_KEY})
    assert status == 200
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and ADMIN_KEY not in cookie
    session = {"cookie": cookie.split(";")[0]}
    assert call("GET", f"{keystorm.url}/api/keys", headers=session)[0] == 200
    body = {"keys": [GOOD]}
    assert call("POST", f"{keystorm.url}/api/keys", body, session)[2]["error"]["code"] == "cross_origin"
    assert call("POST", f"{keystorm.url}/api/keys", body, {**session, "sec-fetch-site": "same-origin"})[0] == 200
    assert call("POST", f"{keystorm.url}/api/logout", headers={**session, "sec-fetch-site": "same-origin"})[0] == 200
    assert call("GET", f"{keystorm.url}/api/keys", headers=session)[0] == 401
    answers = [call("POST", f"{keystorm.url}/api/login", {"key": "wrong"})[0] for _ in range(7)]
    assert answers == [401] * 5 + [429] * 2
    assert call("POST", f"{keystorm.url}/api/login", {"key": ADMIN_KEY})[0] == 429


def test_sealed_keys_need_their_encryption_key(upstream, tmp_path):
    state = tmp_path / "sealed"
    keystorm = KeyStorm(upstream, state, encryption_key="operators-own")
    keystorm.add(GOOD)
    assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
    keystorm.stop()
    assert not any(GOOD.encode() in file.read_bytes() for file in state.iterdir())
    other = KeyStorm(upstream, state, encryption_key="another")
    try:
        status, _, error = other.client("POST", "/v1/chat/completions", CHAT)
        assert status == 503 and "encryption_key" in error["error"]["message"]
    finally:
        other.stop()


def test_no_secret_comes_back(keystorm, upstream):
    dead = "sk-dead-000000000000000003"
    keystorm.add(dead)
    seen = [str(keystorm.client("POST", "/v1/chat/completions", CHAT)) for _ in range(2)]
    time.sleep(1)
    seen.append(str(keystorm.admin("GET", "/api/keys?mask=true")))
    assert not [text for text in seen if dead in text or ADMIN_KEY in text or ACCESS_KEY in text]


def test_a_limit_of_the_whole_endpoint_does_not_go_through_the_pool(keystorm, upstream):
    keystorm.add(*[f"sk-limited-{number:016}" for number in range(100)])
    answers = [keystorm.client("POST", "/v1/chat/completions", CHAT) for _ in range(20)]
    assert {status for status, _, _ in answers} == {429}
    assert all(int(headers["retry-after"]) <= 2 for _, headers, _ in answers)
    asked = sum(upstream.calls().values())
    assert 5 <= asked <= 24, asked
    assert all(key["status"] != "dead" for key in keystorm.admin("GET", "/api/keys?mask=true&pageSize=200")[2]["keys"])
