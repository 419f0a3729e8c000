//! Pastes in the forms that extensions and browsers give.

use super::*;

/// The accounts of a text, as `lines header (form)` or `lines ! problem`.
fn accounts(text: &str) -> Vec<String> {
    let shown = |one: &Pasted| {
        let lines = format!("{}-{}", one.first_line, one.last_line);
        match (&one.given, one.form) {
            (Ok(Given::Cookie(header)), Some(form)) => format!("{lines} {header} ({form})"),
            (Ok(Given::Cookie(header)), None) => format!("{lines} {header}"),
            (Ok(Given::OAuth(_)), _) => format!("{lines} OAuth"),
            (Err(problem), _) => format!("{lines} ! {problem}"),
        }
    };
    read(text).iter().map(shown).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(accounts(text), expected, "{text}");
}

#[test]
fn plain_headers_are_one_a_line() {
    check("", &[]);
    check("# one\n\ncna=1; token=a.b.c\n# two\ntoken=d", &["3-3 cna=1; token=a.b.c", "5-5 token=d"]);
    check("Cookie: token=a\nCookie: token=b", &["1-1 Cookie: token=a", "2-2 Cookie: token=b"]);
    check("token=a\ntoken=b", &["1-1 token=a", "2-2 token=b"]);
    check("token=a; cna=1;\ntoken=b; cna=2;\n", &["1-1 token=a; cna=1;", "2-2 token=b; cna=2;"]);
    check("a=1\nb=2", &["1-1 a=1", "2-2 b=2"]);
    check(
        "\"token=a; cna=1\",\n'token=b'\n\u{201c}token=c\u{201d}",
        &["1-1 token=a; cna=1", "2-2 token=b", "3-3 token=c"],
    );
    check("COOKIE=token=a; cna=1\nexport COOKIE=\"token=b\"", &["1-1 token=a; cna=1", "2-2 token=b"]);
    check("eyJhbGciOiJ", &["1-1 token=eyJhbGciOiJ (an access token)"]);
}

#[test]
fn one_cookie_a_line_is_one_account() {
    let form = "(one cookie a line)";
    check("token=a\ncna=1\nx-ap=hk\n", &[&format!("1-3 token=a; cna=1; x-ap=hk {form}")]);
    check("\u{feff}token=a;\r\n\r\nacw_tc=1;\r\nmine=2", &[&format!("1-4 token=a; acw_tc=1; mine=2 {form}")]);
    check("token: \"a\"\ncna\t1\n", &[&format!("1-2 token=a; cna=1 {form}")]);
    check("token=\"a\"\nquoted=\"b\"", &[&format!("1-2 token=a; quoted=\"b\" {form}")]);
    // A name that comes again begins the next account.
    check(
        "# one\ntoken=a\ncna=1\n# two\ntoken=b\ncna=2",
        &[&format!("2-3 token=a; cna=1 {form}"), &format!("5-6 token=b; cna=2 {form}")],
    );
    // A header that an editor wrapped.
    check("cna=1; token=a;\n x-ap=hk; isg=2", &[&format!("1-2 cna=1; token=a; x-ap=hk; isg=2 {form}")]);
    check("cna=1; token=a\n; isg=2", &[&format!("1-2 cna=1; token=a; isg=2 {form}")]);
}

/// Words in front of the first pair would otherwise become part of its name, and the sign-in would be lost.
#[test]
fn words_around_a_header_are_no_part_of_it() {
    for line in [
        "document.cookie = \"token=a; cna=1\";",
        "document.cookie='token=a; cna=1'",
        "const cookie = \u{201c}token=a; cna=1\u{201d};",
        "Cookie = token=a; cna=1",
        "cookies=\"token=a; cna=1\"",
        "set COOKIE=token=a; cna=1",
    ] {
        check(line, &["1-1 token=a; cna=1"]);
    }
    check("My cookie: token=a; cna=1", &["1-1 cookie: token=a; cna=1"]);
    check("1. Cookie: token=a", &["1-1 Cookie: token=a"]);
    check("cookie=plain; token=a", &["1-1 cookie=plain; token=a"]);
    check("cookie=1; token", &["1-1 cookie=1; token"]);
    check("token=a; x=cookie:y=z", &["1-1 token=a; x=cookie:y=z"]);
    check("```\ntoken=a; cna=1\n```", &["2-2 token=a; cna=1"]);
}

#[test]
fn headers_of_answers_and_of_http_2() {
    check(
        "Set-Cookie: token=a; Path=/; HttpOnly; Secure\nset-cookie: cna=1; Max-Age=100; Domain=.qwen.ai\nset-cookie: x=y; domain=other.example",
        &["1-3 token=a; cna=1 (Set-Cookie headers)"],
    );
    check(
        "set-cookie: token=a\nset-cookie: token=b; path=/",
        &["1-1 token=a (Set-Cookie headers)", "2-2 token=b (Set-Cookie headers)"],
    );
    check("cookie: token=a\ncookie: cna=1\n", &["1-2 token=a; cna=1 (one cookie a line)"]);
}

#[test]
fn requests_of_other_command_lines() {
    let form = "(a request of a command line)";
    check("wget --header='Cookie: token=a; cna=1' https://chat.qwen.ai/", &[&format!("1-1 token=a; cna=1 {form}")]);
    check(
        "$ wget --header \"cookie: token=a\" \\\n  https://chat.qwen.ai/\ntoken=b",
        &[&format!("1-2 token=a {form}"), "3-3 token=b"],
    );
    check("http https://chat.qwen.ai/ Cookie:'token=a; cna=1' accept:x", &[&format!("1-1 token=a; cna=1 {form}")]);
    check("xh get chat.qwen.ai", &["1-1 ! is a request without a Cookie header"]);
}

#[test]
fn json_of_extensions_and_test_browsers() {
    // Cookie-Editor and EditThisCookie.
    let export = r#"[
    {"domain": ".qwen.ai", "expirationDate": 1800000000.5, "hostOnly": false, "httpOnly": true, "name": "refresh_token",
     "path": "/", "sameSite": "lax", "secure": true, "session": false, "storeId": null, "value": "r"},
    {"domain": "chat.qwen.ai", "name": "token", "value": "a.b.c", "id": 2},
    {"domain": ".qwen.ai", "name": "token", "value": "old"},
    {"domain": ".notqwen.ai", "name": "foreign", "value": "x"},
    {"domain": ".google.com", "name": "SID", "value": "x"}
]"#;
    check(export, &["1-8 refresh_token=r; token=a.b.c (JSON)"]);
    check(
        &format!("# one\n{export}\n# two\n[{{\"name\":\"token\",\"value\":\"b\"}}]"),
        &["2-9 refresh_token=r; token=a.b.c (JSON)", "11-11 token=b (JSON)"],
    );
    // Playwright, J2TEAM, a plain object, an object with the header, a list of headers.
    check(
        r#"{"cookies": [{"name": "token", "value": "a", "domain": "chat.qwen.ai"}], "origins": []}"#,
        &["1-1 token=a (JSON)"],
    );
    check(r#"{"url": "https://chat.qwen.ai", "cookies": [{"name": "cna", "value": "1"}]}"#, &["1-1 cna=1 (JSON)"]);
    check(r#"{"token": "a", "cna": "1", "count": 2}"#, &["1-1 token=a; cna=1 (JSON)"]);
    check(r#"{"Cookie": "token=a; cna=1"}"#, &["1-1 token=a; cna=1 (JSON)"]);
    check(r#"["token=a", "token=b"]"#, &["1-1 token=a (JSON)", "1-1 token=b (JSON)"]);
    // The headers of a request as Firefox copies them.
    check(
        r#"{"Request Headers (1.2 kB)": {"headers": [{"name": "Host", "value": "chat.qwen.ai"},
            {"name": "Cookie", "value": "token=a; cna=1"}]}}"#,
        &["1-2 token=a; cna=1 (JSON)"],
    );
    // A network recording.
    check(
        r#"{"log": {"entries": [
            {"request": {"url": "https://chat.qwen.ai/a", "headers": [{"name": "Cookie", "value": "token=a"}], "cookies": []}},
            {"request": {"url": "https://other.example/", "headers": [{"name": "cookie", "value": "x=1"}]}}]}}"#,
        &["1-3 token=a (a network recording (HAR))"],
    );
    check(
        r#"[{"domain": ".google.com", "name": "SID", "value": "x"}]"#,
        &["1-1 ! has no cookie of chat.qwen.ai: it is of another site"],
    );
    check("{}", &["1-1 ! is JSON without cookies of chat.qwen.ai"]);
    check("[]", &["1-1 ! is JSON without cookies of chat.qwen.ai"]);
    check("[{\"name\": ", &["1-1 ! begins like JSON and cannot be read as such"]);
}

#[test]
fn curl_commands() {
    let form = "(a cURL command)";
    // Chrome and Safari for bash.
    check(
        "curl 'https://chat.qwen.ai/api/v2/users/status' \\\n  -H 'accept: */*' \\\n  -b 'token=a.b.c; x=\"q\"' \\\n  --data-raw '{}'\n",
        &[&format!("1-4 token=a.b.c; x=\"q\" {form}")],
    );
    check(
        "curl 'https://chat.qwen.ai/' -X 'GET' -H 'Cookie: token=a; cna=1' --compressed",
        &[&format!("1-1 token=a; cna=1 {form}")],
    );
    check(
        "curl \"https://chat.qwen.ai/\" -H $'cookie: a=it\\'s\\u0021; token=a'",
        &[&format!("1-1 a=it's!; token=a {form}")],
    );
    check(
        "curl --header=\"cookie: token=a\" --cookie cna=1 -Hcookie:x=2 -b jar.txt u",
        &[&format!("1-1 token=a; cna=1; x=2 {form}")],
    );
    // Chrome for cmd, today's form and the older one.
    check(
        "curl ^\"https://chat.qwen.ai/^\" ^\r\n  -H ^\"accept: */*^\" ^\r\n  -b ^\"token=a.b.c; x=^\\^\"q^\\^\"; y=1^%^3D^\"\r\n",
        &[&format!("1-3 token=a.b.c; x=\"q\"; y=1%3D {form}")],
    );
    check(
        "curl \"https://chat.qwen.ai/\" ^\n  -H \"cookie: token=a; x=\\\"q\\\"\" ^\n  --compressed",
        &[&format!("1-3 token=a; x=\"q\" {form}")],
    );
    // PowerShell's line ends.
    check("curl.exe 'https://chat.qwen.ai/' `\n -H 'cookie: token=a'", &[&format!("1-2 token=a {form}")]);
    // Two accounts, and a header after them.
    check(
        "# one\ncurl 'u' \\\n -b 'token=a'\n# two\ncurl 'u' \\\n -b 'token=b'\ntoken=c; cna=1",
        &[&format!("2-3 token=a {form}"), &format!("5-6 token=b {form}"), "7-7 token=c; cna=1"],
    );
    check("curl 'https://chat.qwen.ai/' -H 'accept: */*'", &["1-1 ! is a cURL command without a cookie"]);
}

#[test]
fn fetch_calls_and_powershell_requests() {
    check(
        "fetch(\"https://chat.qwen.ai/api\", {\n  \"headers\": {\n    \"accept\": \"*/*\",\n    \"cookie\": \"token=a; x=\\\"q\\\"\"\n  },\n  \"body\": null\n});\ntoken=b",
        &["1-7 token=a; x=\"q\" (a fetch call)", "8-8 token=b"],
    );
    let without = "is a fetch call without a cookie, which browsers leave out; copy as cURL, or as fetch for Node.js";
    check(
        "await fetch(\"u\", {\n \"headers\": {\"accept\": \"*/*\"},\n \"credentials\": \"include\"\n});",
        &[&format!("1-4 ! {without}")],
    );
    check("fetch(\"u\")", &[&format!("1-1 ! {without}")]);
    check(
        "$session = New-Object Microsoft.PowerShell.Commands.WebRequestSession\n\
         $session.UserAgent = \"Mozilla/5.0\"\n\
         $session.Cookies.Add((New-Object System.Net.Cookie(\"token\", \"a`$b$([char]34)\", \"/\", \"chat.qwen.ai\")))\n\
         $session.Cookies.Add((New-Object System.Net.Cookie(\"cna\", \"1\", \"/\", \".qwen.ai\")))\n\
         $session.Cookies.Add((New-Object System.Net.Cookie(\"SID\", \"1\", \"/\", \".google.com\")))\n\
         Invoke-WebRequest -UseBasicParsing -Uri \"https://chat.qwen.ai/\" `\n\
         -WebSession $session `\n\
         -Headers @{\n\
         \"accept\"=\"*/*\"\n\
         }\n\
         token=b",
        &["1-10 token=a$b\"; cna=1 (a PowerShell request)", "11-11 token=b"],
    );
    check(
        "Invoke-WebRequest -Uri \"u\" -Headers @{\n\"Accept\" = \"*/*\"\n\"Cookie\" = \"token=a; cna=1\"\n}",
        &["1-4 token=a; cna=1 (a PowerShell request)"],
    );
    check("Invoke-RestMethod -Uri \"u\"", &["1-1 ! is a PowerShell request without a cookie"]);
}

#[test]
fn tables_of_cookies() {
    let form = "(a cookies.txt or table of cookies)";
    check(
        "# Netscape HTTP Cookie File\n# https://curl.se/docs/http-cookies.html\n\n\
         .qwen.ai\tTRUE\t/\tTRUE\t1800000000\tcna\t1\n\
         #HttpOnly_chat.qwen.ai\tFALSE\t/\tTRUE\t0\ttoken\ta.b.c\n\
         .google.com\tTRUE\t/\tTRUE\t0\tSID\tx\n",
        &[&format!("4-6 cna=1; token=a.b.c {form}")],
    );
    check("chat.qwen.ai FALSE / TRUE 1800000000 token a.b.c", &[&format!("1-1 token=a.b.c {form}")]);
    check(
        "token\ta.b.c\tchat.qwen.ai\t/\t2026-12-24T00:00:00.000Z\t200\t✓\ncna\t1\t.qwen.ai\t/\tSession\t4",
        &[&format!("1-2 token=a.b.c; cna=1 {form}")],
    );
    check(".google.com\tTRUE\t/\tTRUE\t0\tSID\tx", &["1-1 ! has no cookie of chat.qwen.ai: it is of another site"]);
}

#[test]
fn blocks_of_headers() {
    let form = "(a block of request headers)";
    check(
        "GET /api/v2/users/status HTTP/1.1\r\nHost: chat.qwen.ai\r\nCookie: token=a; cna=1\r\nUser-Agent: x\r\n\r\ntoken=b",
        &[&format!("1-4 token=a; cna=1 {form}"), "6-6 token=b"],
    );
    check(
        ":authority: chat.qwen.ai\n:path: /\nbx-v: 2.5\ncookie: token=a\ncookie: cna=1;\nsec-fetch-mode: cors",
        &[&format!("1-6 token=a; cna=1 {form}")],
    );
    // As two lines each.
    check(
        ":authority\nchat.qwen.ai\ncookie\ntoken=a; cna=1\npriority\nu=1, i",
        &[&format!("1-6 token=a; cna=1 {form}")],
    );
    check("accept: */*\nhost: chat.qwen.ai", &["1-2 ! is a block of headers without a Cookie header"]);
}

#[test]
fn a_token_on_its_own_is_an_account() {
    let form = "(an access token)";
    check("eyJh.eyJp.sig", &[&format!("1-1 token=eyJh.eyJp.sig {form}")]);
    check("Authorization: Bearer eyJh.eyJp.sig", &[&format!("1-1 token=eyJh.eyJp.sig {form}")]);
    check(
        "bearer eyJh.eyJp.sig\n\"eyJh.eyJp.two\"",
        &[&format!("1-1 token=eyJh.eyJp.sig {form}"), &format!("2-2 token=eyJh.eyJp.two {form}")],
    );
    check(
        "eyJh.\neyJp.\nsig\neyJh.eyJp.two",
        &[&format!("1-3 token=eyJh.eyJp.sig {form}"), &format!("4-4 token=eyJh.eyJp.two {form}")],
    );
}

#[test]
fn a_header_broken_into_lines_is_one_account() {
    let form = "(a Cookie header that is broken into lines)";
    check("cna=1; token=eyJh.\n  eyJp.sig; x-ap=hk", &[&format!("1-2 cna=1; token=eyJh.eyJp.sig; x-ap=hk {form}")]);
    check("Cookie: cna=1; tok\nen=a.b.c", &[&format!("1-2 cna=1; token=a.b.c {form}")]);
    check(
        "cna=1; token=a\n=; isg=2\n# next\ntoken=b; cna=2",
        &[&format!("1-2 cna=1; token=a=; isg=2 {form}"), "4-4 token=b; cna=2"],
    );
    let long = format!("cna={}; token=a; x=", "1".repeat(80));
    check(&format!("{long}\nabc=; isg=2"), &[&format!("1-2 {long}abc=; isg=2 {form}")]);
    // Text other than a header stays unchanged.
    check(
        "token=a; cna=1\nbye, and thanks",
        &["1-1 token=a; cna=1", "2-2 ! is not a Cookie header (expected name=value; name=value)"],
    );
}

/// A wrong text has one fault, however long it is.
#[test]
fn lines_that_are_wrong_in_the_same_way_are_one_mistake() {
    let unknown = "is not a Cookie header (expected name=value; name=value)";
    let prose = vec!["what is this"; 210].join("\n");
    check(&prose, &[&format!("1-210 ! {unknown}")]);
    check(
        &format!("{prose}\ntoken=a; cna=1\nbye"),
        &[&format!("1-210 ! {unknown}"), "211-211 token=a; cna=1", &format!("212-212 ! {unknown}")],
    );
    check("<!DOCTYPE html>\n<html>\n\nhello\n</html>", &["1-5 ! is the source of a web page and not a cookie"]);
    check("sk-abc", &["1-1 ! is an API key and not a cookie of chat.qwen.ai; keys belong into QWEN_API_KEYS"]);
    let many = read(&(0..2000).map(|n| format!("token=a{n}; cna=1\n")).collect::<String>());
    assert_eq!(many.len(), ACCOUNTS_MAX + 1);
    assert_eq!(many.last().unwrap().given.as_ref().err(), Some(&Mistake::TooMany));
}

#[test]
fn oauth_credentials_and_recordings() {
    check(r#"{"access_token": "a", "refresh_token": "r", "expiry_date": 5}"#, &["1-1 OAuth"]);
    check(r#"[{"refresh_token": "r", "token_type": "Bearer"}, {"access_token": "b"}]"#, &["1-1 OAuth", "1-1 OAuth"]);
    check(r#"{"refresh_token": "r", "token": "t"}"#, &["1-1 refresh_token=r; token=t (JSON)"]);
    let recording = |entries: &str| format!(r#"{{"log": {{"entries": [{entries}]}}}}"#);
    let request = |url: &str, headers: &str| format!(r#"{{"request": {{"url": "{url}", "headers": [{headers}]}}}}"#);
    let cookie = r#"{"name": "Cookie", "value": "token=a"}"#;
    check(&request("https://chat.qwen.ai/a", cookie), &["1-1 token=a (a network recording (HAR))"]);
    check(
        &recording(&request("https://chat.qwen.ai/a", "")),
        &[
            "1-1 ! is a network recording without cookies of chat.qwen.ai, which browsers leave out; copy as cURL, or export the HAR with sensitive data",
        ],
    );
    check(
        &recording(&request("https://other.example/a", cookie)),
        &["1-1 ! has no cookie of chat.qwen.ai: it is of another site"],
    );
}

#[test]
fn requests_to_other_sites_are_told_apart() {
    let elsewhere = "has no cookie of chat.qwen.ai: it is of another site";
    check("curl 'https://www.google.com/' -H 'cookie: SID=1'", &[&format!("1-1 ! {elsewhere}")]);
    check("wget --header='Cookie: a=1' https://notqwen.ai/", &[&format!("1-1 ! {elsewhere}")]);
    check("curl ^\"https://evil.example/^\" ^\n  -b ^\"token=a^\"", &[&format!("1-2 ! {elsewhere}")]);
}

proptest::proptest! {
    /// No text makes the reader fail, and each line belongs to at most one account or list of accounts.
    #[test]
    fn any_text_is_read(text in "([a-z=;:\"'`^$#\\[\\]{}\\\\ \t\n]|curl |fetch\\(|\\$session|Invoke-WebRequest|token|cookie){0,60}") {
        let lines = text.replace('\r', "\n").split('\n').count();
        for one in read(&text) {
            assert!(one.first_line <= one.last_line && one.last_line <= lines);
        }
    }
}
