"""The administrator's routes, through the real component."""

import json
import time
import urllib.error
import urllib.request

import pytest

from conftest import ADMIN_KEY, call

GOOD = "sk-good-0000000000000001"
DEAD = "sk-dead-000000000000000003"
LIMITED = "sk-limited-00000000000002"
CHAT = {"model": "mock-large", "messages": [{"role": "user", "content": "hello"}]}


def raw(keystorm, method, path, data=None, **headers):
    """A call whose body is no JSON."""
    headers = {"authorization": f"Bearer {ADMIN_KEY}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(f"{keystorm.url}{path}", data=data, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


def states(keystorm):
    return {key["api_key"]: key["status"] for key in keystorm.admin("GET", "/api/keys")[2]["keys"]}


def test_a_check_tells_keys_apart_and_brings_them_back(keystorm, upstream):
    keystorm.add(GOOD, DEAD, LIMITED)
    status, _, answer = keystorm.admin("GET", "/api/keys/check")
    assert status == 200 and answer["cursor"] is None
    assert [found["result"] for found in answer["results"]] == ["valid", "invalid", "limited"]
    assert answer["counts"] == {"valid": 1, "invalid": 1, "limited": 1, "unknown": 0}
    assert states(keystorm) == {GOOD: "active", DEAD: "dead", LIMITED: "cooling_down"}
    upstream.fault(**{DEAD.replace("-", "_"): "good"})
    keystorm.admin("POST", "/api/keys/check", {"filter": {"status": "dead"}})
    assert states(keystorm)[DEAD] == "active"
    upstream.fault(**{DEAD.replace("-", "_"): "dead"})
    keystorm.admin("POST", "/api/keys/check", {"keys": [DEAD], "delete_invalid": True})
    assert DEAD not in states(keystorm)
    assert upstream.calls()[GOOD] == 1, "only the keys that are meant are asked"


def test_a_provider_that_fails_leaves_the_state_alone(keystorm):
    keystorm.add("sk-broken-000000000000001")
    assert keystorm.admin("GET", "/api/keys/check")[2]["results"][0]["result"] == "unknown"
    assert list(states(keystorm).values()) == ["active"]


def test_progress_is_streamed_and_goes_on_at_a_cursor(keystorm):
    keystorm.add(*[f"sk-many-000000000000000{number:03}" for number in range(150)])
    text = raw(keystorm, "POST", "/api/keys/check", b"{}", content_type="application/json", accept="text/event-stream")
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    assert [event["event"] for event in events] == ["progress"] * 150 + ["end"]
    found = [json.loads(event["data"]) for event in events]
    assert [progress["done"] for progress in found[:-1]] == list(range(1, 151))
    assert found[-1] == {"cursor": None, "counts": {"valid": 150, "invalid": 0, "limited": 0, "unknown": 0}}
    rest = keystorm.admin("POST", "/api/keys/check", {"cursor": events[99]["id"]})[2]
    assert [one["id"] for one in rest["results"]] == [one["id"] for one in found[100:150]]


def test_generating_names_its_model(keystorm):
    keystorm.add(GOOD)
    assert keystorm.admin("POST", "/api/keys/check", {"mode": "generate"})[2]["error"]["param"] == "model"
    answer = keystorm.admin("POST", "/api/keys/check", {"mode": "generate", "model": "mock-large"})[2]
    assert answer["results"][0]["result"] == "valid"


def test_statistics_add_up(keystorm, upstream):
    keystorm.add(GOOD, DEAD)
    for _ in range(10):
        assert keystorm.client("POST", "/v1/chat/completions", CHAT)[0] == 200
    time.sleep(2)
    for span in ("1h", "24h", "7d", "90d"):
        stats = keystorm.admin("GET", f"/api/stats?range={span}")[2]
        assert sum(bucket["requests"] for bucket in stats["buckets"]) == sum(upstream.calls().values())
        assert sum(bucket["successes"] for bucket in stats["buckets"]) == 10
    assert [model["model"] for model in stats["models"]] == ["mock-large"]
    assert stats["faults"].get("credential", 0) == upstream.calls().get(DEAD, 0)
    assert keystorm.admin("GET", "/api/stats?range=1y")[2]["error"]["param"] == "range"


@pytest.mark.parametrize(("form", "kind"), [("json", "application/json"), ("csv", "text/csv")])
def test_what_is_exported_comes_in_again_as_it_was(keystorm, form, kind):
    keystorm.add(GOOD, group="a", note='with "quotes", commas', priority=3, weight=5, project="p")
    keystorm.add("AIza" + "0" * 35, apiType="gemini", customEndpoint="https://api.example.com/x")
    keystorm.admin("PATCH", "/api/keys", {"filter": {"group": "a"}, "set": {"enabled": False}})
    names = ["api_key", "apiType", "customEndpoint", "group", "note", "priority", "weight", "project", "status"]
    before = [[key[name] for name in names] for key in keystorm.admin("GET", "/api/keys")[2]["keys"]]
    exported = raw(keystorm, "GET", f"/api/keys/export?format={form}")
    assert keystorm.admin("DELETE", "/api/keys", {"filter": {}})[2]["deleted"] == 2
    answer = json.loads(raw(keystorm, "POST", "/api/keys/import", exported.encode(), content_type=kind))
    assert answer["added"] == 2
    assert [[key[name] for name in names] for key in keystorm.admin("GET", "/api/keys")[2]["keys"]] == before


def test_the_older_systems_json_and_plain_lists_come_in(keystorm):
    older = [{"api_key": GOOD, "status": "active", "key_group": "old", "endpoint_path": ""}, {"api_key": "AIza" + "1" * 35}]
    answer = json.loads(raw(keystorm, "POST", "/api/keys/import", json.dumps(older).encode(), content_type="application/json"))
    assert (answer["added"], answer["invalid"]) == (2, [])
    plain = f"{GOOD}\nsk-plain-00000000000000001, sk-plain-00000000000000002".encode()
    answer = json.loads(raw(keystorm, "POST", "/api/keys/import", plain, content_type="text/plain"))
    assert answer["added"] == 3, "the same key in another group is another key"
    listed = {key["api_key"]: (key["apiType"], key["group"]) for key in keystorm.admin("GET", "/api/keys?group=old")[2]["keys"]}
    assert listed == {GOOD: ("openai", "old")}
    with pytest.raises(urllib.error.HTTPError) as wrong:
        raw(keystorm, "POST", "/api/keys/import", b'{"other": 1}', content_type="application/json")
    assert wrong.value.code == 400


def test_an_alias_stands_for_a_model(keystorm, upstream):
    keystorm.add("AIza" + "2" * 35, apiType="gemini")
    assert keystorm.client("POST", "/v1/chat/completions", {**CHAT, "model": "fast"})[0] == 503
    assert keystorm.admin("PUT", "/api/settings", {"aliases": {"fast": "gemini-2.5-flash"}})[0] == 200
    status, _, answer = keystorm.client("POST", "/v1/chat/completions", {**CHAT, "model": "fast"})
    assert (status, answer["model"]) == (200, "gemini-2.5-flash")
    shown = keystorm.admin("GET", "/api/settings")[2]
    assert shown["aliases"] == {"fast": "gemini-2.5-flash"}
    secrets = [one for one in shown["effective"] if one["secret"]]
    assert secrets and ADMIN_KEY not in str(shown)


def test_the_dry_run_says_who_would_serve(keystorm):
    keystorm.add(GOOD)
    pools = keystorm.admin("GET", "/api/route?model=mock-large")[2]["pools"]
    assert [(pool["apiType"], len(pool["keys"])) for pool in pools] == [("openai", 1)]
    keystorm.admin("PATCH", "/api/keys", {"filter": {}, "set": {"enabled": False}})
    assert keystorm.admin("GET", "/api/route?model=mock-large")[2]["pools"][0]["keys"] == []


def test_the_trail_and_the_sessions(keystorm):
    headers = call("POST", f"{keystorm.url}/api/login", {"key": ADMIN_KEY})[1]
    session = {"cookie": headers["set-cookie"].split(";")[0]}
    keystorm.add(GOOD)
    sessions = call("GET", f"{keystorm.url}/api/sessions", headers=session)[2]["sessions"]
    assert [one["current"] for one in sessions] == [True] and sessions[0]["id"] not in session["cookie"]
    assert keystorm.admin("DELETE", "/api/sessions", {"ids": [sessions[0]["id"]]})[2]["revoked"] == 1
    assert call("GET", f"{keystorm.url}/api/sessions", headers=session)[0] == 401
    events = keystorm.admin("GET", "/api/events?limit=10")[2]["events"]
    assert [event["action"] for event in events] == ["sessions_revoked", "keys_added", "login"]
    assert GOOD not in str(events)
