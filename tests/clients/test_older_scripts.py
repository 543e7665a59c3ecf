"""Scripts that were written for older versions go on: their routes, their bodies, their credential in a cookie."""

import pytest

from conftest import ADMIN_KEY, call

GOOD, DEAD = "sk-good-0000000000000001", "sk-dead-000000000000000003"
BEARER = {"authorization": f"Bearer {ADMIN_KEY}"}
COOKIE = {"cookie": f"theme=dark; auth-key={ADMIN_KEY}"}
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


@pytest.mark.parametrize("credential", [BEARER, {**COOKIE, **SAME_ORIGIN}], ids=["bearer", "cookie"])
def test_keys_are_listed_added_checked_and_deleted(keystorm, credential):
    def ask(method, body=None, path="/api/keys"):
        status, _, answer = call(method, f"{keystorm.url}{path}", body, credential)
        assert status == 200, answer
        return answer

    assert ask("GET")["keys"] == []
    added = ask("POST", {"keys": [GOOD, DEAD, GOOD], "apiType": "openai", "customEndpoint": ""})
    assert added["success"] and added["message"] and (added["added"], added["duplicates"]) == (2, 1)
    added = ask("POST", {"keys": [GOOD], "apiType": "openai", "customEndpoint": "https://api.example.com/v1"})
    assert added["added"] == 1, "the same key at another endpoint is another key"
    assert [(key["api_key"], key["apiType"], key["customEndpoint"]) for key in ask("GET")["keys"]] == [
        (GOOD, "openai", ""), (DEAD, "openai", ""), (GOOD, "openai", "https://api.example.com/v1"),
    ]
    assert ask("DELETE", {"keys": [GOOD]})["deleted"] == 2
    ask("POST", {"keys": [GOOD], "apiType": "openai"})
    assert [found["result"] for found in ask("GET", path="/api/keys/check")["results"]] == ["invalid", "valid"]
    assert {key["api_key"]: key["status"] for key in ask("GET")["keys"]} == {GOOD: "active", DEAD: "dead"}
    assert ask("DELETE", {"keys": [DEAD, "sk-unknown-000000000000001"]})["deleted"] == 1
    assert [key["api_key"] for key in ask("GET")["keys"]] == [GOOD]


@pytest.mark.parametrize("credential", [{}, {"authorization": "Bearer wrong"}, {"cookie": "auth-key=wrong"}], ids=["none", "bearer", "cookie"])
def test_nobody_else_comes_in(keystorm, credential):
    keystorm.add(GOOD)
    for method, path, body in [("GET", "/api/keys", None), ("GET", "/api/keys/check", None), ("POST", "/api/keys", {"keys": []}), ("DELETE", "/api/keys", {"keys": [GOOD]})]:
        status, _, answer = call(method, f"{keystorm.url}{path}", body, {**credential, **SAME_ORIGIN})
        assert status in (401, 429) and GOOD not in str(answer), (method, path)
    assert len(keystorm.admin("GET", "/api/keys")[2].get("keys", [GOOD])) == 1


def test_another_sites_page_changes_nothing_with_the_cookie(keystorm):
    keystorm.add(GOOD)
    for origin in ({}, {"sec-fetch-site": "cross-site"}, {"origin": "https://elsewhere.example"}):
        assert call("DELETE", f"{keystorm.url}/api/keys", {"keys": [GOOD]}, {**COOKIE, **origin})[0] == 403
    assert len(keystorm.admin("GET", "/api/keys")[2]["keys"]) == 1
