//! Who is let in and what is kept apart, through whole requests: credentials, sessions, throttles, browsers, headers.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails where it stands"
)]

mod support;

use futures::executor::block_on;
use http::{HeaderMap, HeaderName, HeaderValue};
use keystorm::{
    app::App,
    ports::{Body, Request, Response},
};
use support::{Answer, FakePorts, Piece, Pieces};

const DEFAULT: &str = "e86ea1ceb610e1ed502f5a99a386a0a252a933525187a43f18db6a6d91c91434";
const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
const LOCAL: (&str, &str) = ("spin-client-addr", "127.0.0.1:50000");

struct Test {
    app: App<FakePorts>,
    ports: FakePorts,
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Test {
    fn new(variables: &str) -> Self {
        Self::over(variables, Answer::Head(200, Vec::new(), "{\"ok\":true}"))
    }

    fn over(variables: &str, answer: Answer) -> Self {
        let ports = FakePorts::new(variables, move |_, _| answer.clone());
        Self {
            app: App::new(ports.clone()),
            ports,
        }
    }

    fn restarted(&self, variables: &str) -> Self {
        let ports = self.ports.restarted(variables);
        Self {
            app: App::new(ports.clone()),
            ports,
        }
    }

    fn call(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Got {
        self.send(method, target, headers, Pieces::of(body))
    }

    fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: Pieces) -> Got {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut all = HeaderMap::new();
        all.append("content-type", HeaderValue::from_static("application/json"));
        for (name, value) in headers {
            all.append(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let request = Request {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            query: query.to_owned(),
            scheme: "http".to_owned(),
            authority: "localhost:3000".to_owned(),
            headers: all,
            body,
        };
        let Response { status, headers, body } = block_on(self.app.handle(request));
        let body = match body {
            Body::Full(bytes) => bytes,
            Body::Forward(body) => block_on(keystorm::handlers::fetch::whole(body)).unwrap(),
            Body::Stream(_) => bytes::Bytes::new(),
        };
        Got {
            status: status.as_u16(),
            headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    fn status(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> u16 {
        self.call(method, target, headers, body).status
    }

    fn add(&self, key: &str, admin: &str, more: &str) {
        let body = format!("{{\"keys\":[\"{key}\"]{more}}}");
        let bearer = format!("Bearer {admin}");
        let got = self.call("POST", "/api/keys", &[("authorization", &bearer), LOCAL], &body);
        assert_eq!(got.status, 200, "{}", got.body);
    }

    fn sign_in(&self, key: &str) -> String {
        let got = self.call("POST", "/api/login", &[LOCAL], &format!("{{\"key\":\"{key}\"}}"));
        assert_eq!(got.status, 200, "{}", got.body);
        let cookie = got.headers["set-cookie"].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }
}

#[test]
fn credentials_are_compared_in_constant_time() {
    // Timing cannot be measured reliably here: what is looked at is that nothing but the comparison of digests decides.
    let source = |name: &str| std::fs::read_to_string(format!("src/{name}")).unwrap();
    assert!(source("secret.rs").contains("ct_eq"));
    let mut looked_at = 0;
    let mut folders = vec![std::path::PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            looked_at += 1;
            for line in text.lines().filter(|line| line.contains("==") || line.contains("!=")) {
                // The published defaults are no secrets.
                let harmless = line.contains("DEFAULT_");
                let secret = ["expose()", "auth_keys", "home_access_key", "metrics_token"]
                    .iter()
                    .any(|word| line.contains(word));
                assert!(!secret || harmless, "{}: {line}", path.display());
            }
        }
    }
    assert!(looked_at > 40);
}

#[test]
fn several_access_keys_serve_and_no_other_does() {
    let test = Test::new("auth_key=one,two\nhome_access_key=admin\n");
    test.add("sk-pool-key", "admin", "");
    for (key, status) in [("one", 200), ("two", 200), ("one,two", 401), ("admin", 401), ("", 401)] {
        let bearer = format!("Bearer {key}");
        let got = test.call("POST", "/v1/chat/completions", &[("authorization", &bearer)], CHAT);
        assert_eq!(got.status, status, "{key}: {}", got.body);
    }
    assert_eq!(
        test.status("GET", "/api/keys", &[("authorization", "Bearer one")], ""),
        401
    );
}

#[test]
fn nobody_is_served_from_the_pool_without_a_key_in_pass_through_mode() {
    let test = Test::new("home_access_key=admin\nforward_client_key_enabled=true\n");
    test.add("sk-pool-key", "admin", "");
    test.add("AIza-pool-key", "admin", ",\"apiType\":\"gemini\"");
    let gemini = "/v1beta/models/gemini-2.5-flash:generateContent";
    for (method, path) in [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/files"),
        ("POST", gemini),
        ("GET", "/v1/models"),
        ("GET", "/v1beta/files"),
    ] {
        let got = test.call(method, path, &[LOCAL], CHAT);
        assert_eq!(got.status, 401, "{method} {path}: {}", got.body);
    }
    assert!(test.ports.sent().is_empty());
    let own = [("authorization", "Bearer sk-of-the-client")];
    assert_eq!(test.status("POST", "/v1/chat/completions", &own, CHAT), 200);
    assert_eq!(
        test.status("POST", &format!("{gemini}?key=AIza-client"), &[], "{}"),
        200
    );
    let sent = test.ports.sent();
    assert_eq!(sent[0].1["authorization"], "Bearer sk-of-the-client");
    assert_eq!(sent[1].1["x-goog-api-key"], "AIza-client");
    assert!(!sent[1].0.contains("AIza-client"), "never in a URL: {}", sent[1].0);
}

#[test]
fn no_credential_of_a_client_goes_up_and_none_of_a_key_comes_down() {
    let told = vec![
        ("content-type", "application/json"),
        ("x-goog-upload-url", "https://upload.example/?key=sk-pool-key&id=1"),
        ("x-echo", "Bearer sk-pool-key"),
        ("set-cookie", "a=b"),
        ("alt-svc", "h3"),
        ("transfer-encoding", "chunked"),
        ("openai-organization", "org"),
        ("x-ratelimit-remaining-requests", "7"),
        ("x-request-id", "upstream"),
        ("content-security-policy", "script-src *"),
        ("access-control-allow-origin", "https://elsewhere"),
        ("openai-processing-ms", "9"),
    ];
    let test = Test::over(
        "auth_key=access\nhome_access_key=admin\n",
        Answer::Head(200, told, "{}"),
    );
    test.add("sk-pool-key", "admin", "");
    let sent = [
        ("authorization", "Bearer access"),
        ("x-api-key", "access"),
        ("x-goog-api-key", "access"),
        ("api-key", "access"),
        ("cookie", "auth-key=admin"),
        ("x-forwarded-for", "192.0.2.9"),
        ("spin-client-addr", "192.0.2.9:1"),
        ("x-goog-iap-jwt-assertion", "eyJ"),
        ("proxy-authorization", "Basic eA=="),
        ("te", "trailers"),
        ("openai-organization", "org-of-the-client"),
        ("openai-beta", "v2"),
    ];
    let got = test.call("POST", "/v1/chat/completions?key=access&x=1", &sent, CHAT);
    assert_eq!(got.status, 200, "{}", got.body);
    let (url, up) = &test.ports.sent()[0];
    assert_eq!(url, "https://api.openai.com/v1/chat/completions?x=1");
    let mut names: Vec<_> = up.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["authorization", "content-type", "openai-beta"]);
    assert_eq!(up["authorization"], "Bearer sk-pool-key");
    let mut names: Vec<_> = got.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "access-control-allow-origin",
            "access-control-expose-headers",
            "content-security-policy",
            "content-type",
            "openai-processing-ms",
            "x-content-type-options",
            "x-keystorm-attempts",
            "x-keystorm-key",
            "x-request-id",
        ]
    );
    assert_eq!(got.headers["content-security-policy"], "default-src 'none'; sandbox");
    assert_eq!(got.headers["access-control-allow-origin"], "*");
    assert!(
        !format!("{:?}", got.headers).contains("sk-pool-key"),
        "{:?}",
        got.headers
    );
}

#[test]
fn other_origins_may_read_the_clients_side_alone() {
    let test = Test::new("auth_key=access\nhome_access_key=admin\ncors_allow_origin=https://app.example\n");
    let cases = [
        ("POST", "/v1/chat/completions", true),
        ("GET", "/v1/nothing/at/all", true),
        ("OPTIONS", "/v1/chat/completions", true),
        ("OPTIONS", "/v1beta/models/x:generateContent", true),
        ("GET", "/api/keys", false),
        ("OPTIONS", "/api/keys", false),
        ("POST", "/api/login", false),
        ("GET", "/api/nothing", false),
        ("GET", "/metrics", false),
        ("GET", "/healthz", false),
        ("GET", "/readyz", false),
    ];
    for (method, path, shared) in cases {
        let got = test.call(method, path, &[("origin", "https://app.example")], "");
        let origin = got.headers.get("access-control-allow-origin");
        assert_eq!(
            origin.map(|origin| origin.to_str().unwrap()),
            shared.then_some("https://app.example"),
            "{method} {path}"
        );
        assert!(
            got.headers.get("access-control-allow-credentials").is_none(),
            "{method} {path}"
        );
        let no_store = path.starts_with("/api/").then_some("no-store");
        let cache = got.headers.get("cache-control");
        assert_eq!(cache.map(|value| value.to_str().unwrap()), no_store, "{method} {path}");
        assert_eq!(got.headers["x-content-type-options"], "nosniff", "{method} {path}");
    }
}

#[test]
fn guesses_are_throttled_wherever_the_administrators_key_is_taken() {
    let login = |test: &Test, key: &str, address: &str| {
        let body = format!("{{\"key\":\"{key}\"}}");
        test.call("POST", "/api/login", &[("spin-client-addr", address)], &body)
    };
    type Guess = fn(&Test) -> u16;
    let doors: [(&str, Guess); 4] = [
        ("login", |test| {
            test.status("POST", "/api/login", &[LOCAL], "{\"key\":\"guess\"}")
        }),
        ("bearer", |test| {
            test.status("GET", "/api/keys", &[("authorization", "Bearer guess"), LOCAL], "")
        }),
        ("cookie", |test| {
            test.status("GET", "/api/keys", &[("cookie", "auth-key=guess"), LOCAL], "")
        }),
        ("metrics", |test| {
            test.status("GET", "/metrics", &[("authorization", "Bearer guess"), LOCAL], "")
        }),
    ];
    for (door, guess) in doors {
        let test = Test::new("home_access_key=admin\n");
        let answers: Vec<_> = (0..6).map(|_| guess(&test)).collect();
        assert_eq!(answers, [401, 401, 401, 401, 401, 429], "{door}");
        // All doors are closed for this address, also for the right key, and none for another one.
        assert_eq!(login(&test, "admin", "127.0.0.1:2").status, 429, "{door}");
        assert_eq!(login(&test, "admin", "192.0.2.1:2").status, 200, "{door}");
        // A second, then two, then four, up to a quarter of an hour.
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            let got = login(&test, "guess", "127.0.0.1:3");
            assert_eq!(
                (got.status, got.headers["retry-after"].to_str().unwrap()),
                (429, wait.to_string().as_str()),
                "{door}"
            );
            test.ports.advance(wait * 1000);
            assert_eq!(login(&test, "guess", "127.0.0.1:3").status, 401, "{door}");
        }
        test.ports.advance(900_000);
        assert_eq!(login(&test, "admin", "127.0.0.1:4").status, 200, "{door}");
        assert_eq!(login(&test, "guess", "127.0.0.1:4").status, 401, "{door}: counted anew");
    }
}

#[test]
fn one_ipv6_network_is_one_address_and_quiet_ones_are_forgotten() {
    let test = Test::new("home_access_key=admin\n");
    let guess = |address: &str| {
        test.status(
            "GET",
            "/api/keys",
            &[("authorization", "Bearer guess"), ("spin-client-addr", address)],
            "",
        )
    };
    for host in 1..6 {
        assert_eq!(guess(&format!("[2001:db8:1:1::{host}]:1")), 401);
    }
    assert_eq!(guess("[2001:db8:1:1:ffff::6]:1"), 429);
    assert_eq!(guess("[2001:db8:1:2::1]:1"), 401);
    for number in 0..500 {
        guess(&format!("192.0.2.{}:1", number % 250));
        test.ports.advance(86_400_000 / 250);
    }
    let throttles = test.ports.stored().len();
    assert!(throttles < 252, "{throttles} addresses are still remembered");
    test.ports.advance(2 * 86_400_000);
    for number in 0..600 {
        guess(&format!("198.51.100.{}:1", number % 7));
        test.ports.advance(1_000_000);
    }
    let throttles = test.ports.stored();
    assert!(throttles.len() <= 7, "{throttles:?}");
}

#[test]
fn sessions_are_random_revocable_and_end_with_the_password() {
    let variables = "home_access_key=admin\n";
    let test = Test::new(variables);
    let (one, two) = (test.sign_in("admin"), test.sign_in("admin"));
    assert_ne!(one, two);
    let id = one.split_once('=').unwrap().1;
    assert_eq!(id.len(), 64);
    for (name, value) in test.ports.stored() {
        assert!(
            !name.contains(id) && !value.contains(id),
            "the store keeps no usable id"
        );
        assert!(!name.contains("admin") && !value.contains("admin"));
    }
    let ask = |test: &Test, cookie: &str| test.status("GET", "/api/keys", &[("cookie", cookie), LOCAL], "");
    assert_eq!((ask(&test, &one), ask(&test, &two)), (200, 200));
    // Signing out ends one session and no other.
    let same = [("cookie", one.as_str()), ("sec-fetch-site", "same-origin"), LOCAL];
    assert_eq!(test.status("POST", "/api/logout", &same, ""), 200);
    assert_eq!((ask(&test, &one), ask(&test, &two)), (401, 200));
    // Another password, another key to all names.
    assert_eq!(ask(&test.restarted("home_access_key=changed\n"), &two), 401);
    let test = test.restarted(variables);
    // The session is lost with the restart that took the script; a new one lasts thirty days and no longer.
    let three = test.sign_in("admin");
    test.ports.advance(30 * 86_400_000);
    assert_eq!(ask(&test, &three), 200);
    test.ports.advance(1);
    assert_eq!(ask(&test, &three), 401);
    // Made-up ids are no guesses at the password, and open nothing.
    for _ in 0..20 {
        assert_eq!(ask(&test, &format!("auth-key={}", "0".repeat(64))), 401);
    }
    assert_eq!(test.status("GET", "/api/session", &[LOCAL], ""), 200);
    // Revoked from the list.
    let four = test.sign_in("admin");
    let bearer = ("authorization", "Bearer admin");
    let listed = test.call("GET", "/api/sessions", &[bearer, LOCAL], "").body;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let ids: Vec<_> = listed["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["id"])
        .collect();
    let body = serde_json::json!({ "ids": ids }).to_string();
    assert_eq!(test.status("DELETE", "/api/sessions", &[bearer, LOCAL], &body), 200);
    assert_eq!(ask(&test, &four), 401);
}

#[test]
fn no_script_and_no_other_site_gets_the_cookie() {
    let test = Test::new("home_access_key=admin\n");
    let cookie = |headers: &[(&str, &str)]| {
        let got = test.call("POST", "/api/login", headers, r#"{"key":"admin"}"#);
        let cookie = got.headers["set-cookie"].to_str().unwrap();
        let attributes = cookie.split("; ").skip(1).map(str::to_owned);
        attributes.collect::<Vec<_>>()
    };
    let plain = ["Path=/", "HttpOnly", "SameSite=Strict", "Max-Age=2592000"];
    assert_eq!(cookie(&[LOCAL]), plain);
    // What came by https stays there.
    let https = cookie(&[LOCAL, ("x-forwarded-proto", "https")]);
    assert_eq!(https, [&plain[..], &["Secure"]].concat());
}

#[test]
fn another_sites_page_changes_nothing() {
    let test = Test::new("home_access_key=admin\n");
    let cookie = test.sign_in("admin");
    let add = r#"{"keys":["sk-forged-0000000000001"]}"#;
    let origins: [(&str, &[(&str, &str)], bool); 7] = [
        ("the page", &[("sec-fetch-site", "same-origin")], true),
        (
            "the page in an old browser",
            &[("origin", "http://localhost:3000")],
            true,
        ),
        (
            "another site",
            &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
            false,
        ),
        (
            "another port of this host",
            &[("sec-fetch-site", "same-site"), ("origin", "http://localhost:9000")],
            false,
        ),
        (
            "another site in an old browser",
            &[("origin", "https://evil.example")],
            false,
        ),
        ("a sandboxed frame", &[("origin", "null")], false),
        ("nobody says", &[], false),
    ];
    for (who, headers, passes) in origins {
        let mut all = vec![("cookie", cookie.as_str()), LOCAL];
        all.extend_from_slice(headers);
        for (method, path, body) in [
            ("POST", "/api/keys", add),
            ("PATCH", "/api/keys", r#"{"ids":[1],"set":{"note":"x"}}"#),
            ("DELETE", "/api/keys", r#"{"ids":[999]}"#),
            ("POST", "/api/keys/import", "[\"sk-forged-0000000000002\"]"),
            ("PUT", "/api/settings", r#"{"aliases":{}}"#),
            ("DELETE", "/api/sessions", r#"{"ids":[]}"#),
            ("POST", "/api/keys/check", r#"{"ids":[999]}"#),
        ] {
            let got = test.call(method, path, &all, body);
            assert_eq!(
                got.status,
                if passes { 200 } else { 403 },
                "{who}: {method} {path}: {}",
                got.body
            );
        }
        // A bearer is no cookie: no page can make a browser send it.
        if passes {
            continue;
        }
        assert_eq!(
            test.status("POST", "/api/logout", &all, ""),
            403,
            "{who} signs nobody out"
        );
        let mut by_bearer = vec![("authorization", "Bearer admin"), LOCAL];
        by_bearer.extend_from_slice(headers);
        assert_eq!(test.status("POST", "/api/keys", &by_bearer, add), 200, "{who}");
        // Reading has side effects too: a check by GET asks providers.
        if !headers.is_empty() {
            assert_eq!(test.status("GET", "/api/keys/check", &all, ""), 403, "{who}");
            assert_eq!(
                test.status(
                    "POST",
                    "/api/login",
                    &[headers, &[LOCAL]].concat(),
                    r#"{"key":"admin"}"#
                ),
                403,
                "{who}"
            );
        }
    }
}

#[test]
fn the_published_defaults_serve_nobody_from_elsewhere() {
    let test = Test::new("");
    test.add("sk-pool-key", DEFAULT, "");
    let bearer = format!("Bearer {DEFAULT}");
    let cookie = format!("auth-key={DEFAULT}");
    let login = format!("{{\"key\":\"{DEFAULT}\"}}");
    let callers: [(&str, &[(&str, &str)], bool); 7] = [
        ("this machine", &[LOCAL], true),
        ("another machine", &[("spin-client-addr", "192.0.2.1:1")], false),
        (
            "another machine that lies",
            &[LOCAL, ("spin-client-addr", "192.0.2.1:1")],
            false,
        ),
        ("a proxy", &[("x-forwarded-for", "127.0.0.1"), LOCAL], false),
        ("a proxy that says so", &[("forwarded", "for=192.0.2.1"), LOCAL], false),
        (
            "a page of another site",
            &[("origin", "https://evil.example"), LOCAL],
            false,
        ),
        ("nobody knows", &[], false),
    ];
    for (who, headers, served) in callers {
        let expected = if served { 200 } else { 403 };
        let with = |name: &'static str, value: &str| {
            let mut all = headers.to_vec();
            all.push((name, Box::leak(value.to_owned().into_boxed_str())));
            all
        };
        let chat = test.call(
            "POST",
            "/v1/chat/completions",
            &with("authorization", "Bearer yCENzh"),
            CHAT,
        );
        assert_eq!(chat.status, expected, "{who}: {}", chat.body);
        if !served {
            assert!(chat.body.contains("default_credentials") && chat.body.contains("SPIN_VARIABLE_AUTH_KEY"));
        }
        assert_eq!(
            test.status("GET", "/api/keys", &with("authorization", &bearer), ""),
            expected,
            "{who}"
        );
        assert_eq!(
            test.status("GET", "/metrics", &with("authorization", &bearer), ""),
            expected,
            "{who}"
        );
        assert_eq!(test.status("POST", "/api/login", headers, &login), expected, "{who}");
        let by_cookie = test.status("GET", "/api/keys", &with("cookie", &cookie), "");
        assert_eq!(by_cookie, expected, "{who}");
    }
}

#[test]
fn a_path_never_reaches_another_route_or_host() {
    let test = Test::new("auth_key=access\nhome_access_key=admin\n");
    test.add("sk-pool-key", "admin", "");
    test.add("AIza-pool-key", "admin", ",\"apiType\":\"gemini\"");
    for path in [
        "//evil.example/v1/chat/completions",
        "/v1/..//api/keys",
        "/v1/%2e%2e/api/keys",
        "/v1/%252e%252e/api/keys",
        "/v1/files/..%2f..%2fadmin",
        "/v1/files;x=1/a",
        "/v1/files/%5c..%5cx",
        "/v1/files%0d%0ax:%20y/z",
        "/v1beta/models/..%2f..%2fevil:generateContent",
        "/v1beta/%2e%2e/x",
        "/upload/v1beta/../../x",
        "/g/../api/keys",
        "/v1/@evil.example/x%00",
    ] {
        let got = test.call("POST", path, &[("authorization", "Bearer access")], CHAT);
        assert_eq!(got.status, 404, "{path}: {}", got.body);
        let json: serde_json::Value = serde_json::from_str(&got.body).unwrap();
        assert!(json["error"]["message"].is_string(), "{path}: {}", got.body);
    }
    assert!(test.ports.sent().is_empty());
    for path in [
        "/v1/@evil.example/x",
        "/v1/:80/x",
        "/v1/files/a%40b?u=http://evil.example/#x",
    ] {
        test.call("GET", path, &[("authorization", "Bearer access")], "");
    }
    for path in ["/v1/models/a%3Fx=1%23y", "/v1/models/a%20b%25c"] {
        assert_eq!(
            test.status("DELETE", path, &[("authorization", "Bearer access")], ""),
            200,
            "{path}"
        );
    }
    let urls: Vec<_> = test.ports.sent().into_iter().map(|(url, _)| url).collect();
    assert!(
        urls.iter().all(|url| url.starts_with("https://api.openai.com/v1/")),
        "{urls:?}"
    );
    assert!(
        urls.contains(&"https://api.openai.com/v1/models/a%3Fx%3D1%23y".to_owned()),
        "{urls:?}"
    );
    assert!(
        urls.contains(&"https://api.openai.com/v1/models/a%20b%25c".to_owned()),
        "{urls:?}"
    );
}

#[test]
fn a_body_is_bounded_by_what_is_said_and_by_what_comes() {
    let test = Test::new("home_access_key=admin\nauth_key=client\nmax_body_bytes=1024\n");
    for (path, key) in [
        ("/v1/chat/completions", "client"),
        ("/v1/responses", "client"),
        ("/api/keys", "admin"),
    ] {
        let bearer = format!("Bearer {key}");
        let said = [("authorization", bearer.as_str()), LOCAL, ("content-length", "1025")];
        let got = test.call("POST", path, &said, "");
        assert_eq!(got.status, 413, "{path} is refused before it is sent: {}", got.body);
        assert!(got.body.contains("max_body_bytes"), "{}", got.body);
        let unsaid = &said[..2];
        for pieces in [vec![1025], vec![600, 425], vec![1000, 24, 1]] {
            let pieces = pieces.into_iter().map(|length| Piece::Data(" ".repeat(length)));
            assert_eq!(
                test.send("POST", path, unsaid, Pieces(pieces.collect())).status,
                413,
                "{path}"
            );
        }
        let pieces = [1000, 24].map(|length| Piece::Data(" ".repeat(length)));
        assert_ne!(
            test.send("POST", path, unsaid, Pieces(pieces.into())).status,
            413,
            "{path}"
        );
    }
}

#[test]
fn a_body_has_to_come_in_time() {
    let test = Test::new("auth_key=client\nbody_timeout_ms=5000\n");
    let data = || Piece::Data(" ".repeat(1000));
    let late = |ms| Piece::Late(test.ports.clone(), ms);
    let cases = [
        ("at once", vec![data(), data()], 400),
        ("a piece that does not come", vec![data(), Piece::Wait(1), data()], 408),
        // A thousand bytes may take an eighth of a second beside the time-out.
        (
            "slowly and just in time",
            vec![late(4999), data(), late(200), data()],
            400,
        ),
        (
            "too slowly on the whole",
            vec![late(4000), data(), late(1500), data()],
            408,
        ),
    ];
    for (how, pieces, status) in cases {
        let got = test.send(
            "POST",
            "/v1/chat/completions",
            &[("authorization", "Bearer client")],
            Pieces(pieces.into()),
        );
        assert_eq!(got.status, status, "{how}: {}", got.body);
    }
}
