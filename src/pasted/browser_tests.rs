//! Whole pastes as browsers, shells and extensions of today write them: each is one account, or has one mistake.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::ids::UnixSeconds;
use crate::base::text::decoded;
use crate::pasted::report::{Credential, report};
use crate::pasted::{Given, read};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

/// A token of the site's form that ends so many seconds from now.
fn token(seconds: i64) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = URL_SAFE_NO_PAD.encode(format!("{{\"id\":\"3f2a91bc\",\"exp\":{}}}", NOW.0 + seconds));
    format!("{header}.{claims}.{}", "s".repeat(43))
}

/// The pairs of the one account in a text, sorted; else the sentences about what it is and what is missing.
fn told(text: &str) -> Result<Vec<String>, String> {
    let found = report(text, NOW);
    match (found.credential, found.missing) {
        (Some(Credential::Web(cookie)), None) => {
            let mut pairs: Vec<String> = cookie.expose().split("; ").map(str::to_owned).collect();
            pairs.sort();
            Ok(pairs)
        }
        (None, Some(missing)) => Err(format!("{} | {}", found.recognised.en, missing.en)),
        (_, missing) => panic!("{text}: {missing:?}"),
    }
}

#[track_caller]
fn is_account(text: &str, pairs: &[&str]) {
    let mut pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
    pairs.sort();
    assert_eq!(told(text), Ok(pairs), "{text}");
    assert_eq!(read(text).len(), 1, "{text}");
}

#[track_caller]
fn is_mistake(text: &str, part: &str) {
    let found = told(text);
    assert!(found.as_ref().is_err_and(|words| words.contains(part)), "{text}: {found:?}");
    // In a file of cookies it is one fault, too; a plain header is judged later.
    let parts = read(text);
    assert!(parts.len() == 1 || parts.iter().all(|one| matches!(one.given, Ok(Given::Cookie(_)))), "{text}: {parts:?}");
}

#[test]
fn curl_commands_of_cmd_with_their_carets() {
    let t = token(900);
    is_account(
        &format!(
            "curl ^\"https://chat.qwen.ai/api/v2/chats/?page=1^&size=2^\" ^\r\n  -H ^\"accept: */*^\" ^\r\n  -b ^\"cna=1^&2; u=3^|4; v=5^^6; w=^\\^\"q^\\^\"; x=7^%^3D; token={t}^\" ^\r\n  -H ^\"referer: https://chat.qwen.ai/^\" ^\r\n  --data-raw ^\"^{{^\\^\"a^\\^\":1^}}^\"\r\n"
        ),
        &["cna=1&2", "u=3|4", "v=5^6", "w=\"q\"", "x=7%3D", &format!("token={t}")],
    );
    is_mistake("curl ^\"https://chat.qwen.ai/^\" ^\r\n  -H ^\"accept: */*^\"\r\n", "a cURL command without a cookie");
}

#[test]
fn curl_commands_of_many_lines() {
    let t = token(900);
    let header = format!("cna=1; token={t}");
    let pairs = ["cna=1".to_owned(), format!("token={t}")];
    let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
    for text in [
        format!("curl 'https://chat.qwen.ai/' \\\n  -b '{header}' \\\n  -H 'accept: */*'"),
        format!("curl 'https://chat.qwen.ai/' \\\n  -b \\\n  '{header}'"),
        format!("curl --location 'https://chat.qwen.ai/' \\\n--header 'Cookie: {header}' \\\n--data ''"),
        format!("curl https://chat.qwen.ai/ -b \"{header}\""),
        format!("$ curl 'https://chat.qwen.ai/' \\\n>   -b '{header}'\n"),
        format!("curl -X POST https://chat.qwen.ai/ -H $'cookie: {header}'"),
        format!("curl 'https://chat.qwen.ai/' \\\r\n  --cookie '{header}' \\\r\n  --compressed\r\n"),
    ] {
        is_account(&text, &pairs);
    }
}

#[test]
fn powershell_with_a_session_of_cookies() {
    let t = token(900);
    let quoted = |quote: char| {
        let cookie = |name: &str, value: &str, domain: &str| {
            let [name, value, path, domain] = [name, value, "/", domain].map(|word| format!("{quote}{word}{quote}"));
            format!("$session.Cookies.Add((New-Object System.Net.Cookie({name}, {value}, {path}, {domain})))\r\n")
        };
        format!(
            "$session = New-Object Microsoft.PowerShell.Commands.WebRequestSession\r\n$session.UserAgent = \"Mozilla/5.0 (X11)\"\r\n{}{}{}Invoke-WebRequest -UseBasicParsing -Uri \"https://chat.qwen.ai/api/v2/chats/\" `\r\n-WebSession $session `\r\n-Headers @{{\r\n\"method\"=\"GET\"\r\n  \"accept-encoding\"=\"gzip\"\r\n}} `\r\n-ContentType \"application/json\"\r\n",
            cookie("cna", "1", ".qwen.ai"),
            cookie("token", &t, "chat.qwen.ai"),
            cookie("NID", "google", ".google.com"),
        )
    };
    for quote in ['"', '\''] {
        is_account(&quoted(quote), &["cna=1", &format!("token={t}")]);
    }
    is_mistake(
        "Invoke-WebRequest -UseBasicParsing -Uri \"https://chat.qwen.ai/\" `\r\n-Headers @{\r\n\"accept\"=\"*/*\"\r\n}",
        "a PowerShell request without a cookie",
    );
}

#[test]
fn fetch_calls_of_firefox_chrome_and_node() {
    let t = token(900);
    let firefox = "await fetch(\"https://chat.qwen.ai/api/v1/auths/\", {\n    \"credentials\": \"include\",\n    \"headers\": {\n        \"User-Agent\": \"Mozilla/5.0\",\n        \"Accept\": \"*/*\"\n    },\n    \"referrer\": \"https://chat.qwen.ai/\",\n    \"method\": \"GET\",\n    \"mode\": \"cors\"\n});";
    is_mistake(firefox, "a fetch call without a cookie, which browsers leave out; copy as cURL");
    let chrome = "fetch(\"https://chat.qwen.ai/api/v1/auths/\", {\n  \"headers\": {\n    \"accept\": \"*/*\",\n    \"sec-ch-ua\": \"\\\"Chromium\\\";v=\\\"142\\\"\"\n  },\n  \"body\": null,\n  \"method\": \"GET\"\n});";
    is_mistake(chrome, "a fetch call without a cookie, which browsers leave out; copy as cURL");
    let node = chrome.replace("\"accept\": \"*/*\"", &format!("\"cookie\": \"cna=1; token={t}\""));
    is_account(&node, &["cna=1", &format!("token={t}")]);
    let written = format!("fetch('https://chat.qwen.ai/', {{ headers: {{ Cookie: 'token={t}' }} }})");
    is_account(&written, &[&format!("token={t}")]);
}

/// Of a recording the newest cookies count: a session may have been renewed while it ran.
#[test]
fn recordings_with_several_entries() {
    let entry = |url: &str, headers: &str| {
        format!(
            r#"{{"startedDateTime": "x", "request": {{"method": "GET", "url": "{url}", "headers": [{headers}], "cookies": []}}, "response": {{}}}}"#
        )
    };
    let cookie = |value: &str| format!(r#"{{"name": "Cookie", "value": "{value}"}}"#);
    let recording = |entries: &[String]| {
        format!(
            r#"{{"log": {{"version": "1.2", "creator": {{"name": "Firefox"}}, "pages": [], "entries": [{}]}}}}"#,
            entries.join(",\n")
        )
    };
    let (old, new) = (format!("token={}", token(60)), format!("token={}", token(900)));
    let chat = "https://chat.qwen.ai/api/v2/chats/";
    is_account(
        &recording(&[
            entry(chat, &cookie(&old)),
            entry("https://www.google.com/", &cookie("SID=1")),
            entry(chat, &cookie(&new)),
            entry(chat, r#"{"name": "accept", "value": "*/*"}"#),
            entry("https://cdn.example/x.js", ""),
        ]),
        &[&new],
    );
    // What names another site by its path or by a longer name is not the site.
    is_mistake(
        &recording(&[
            entry("https://evil.example/chat.qwen.ai", &cookie(&new)),
            entry("https://chat.qwen.ai.evil.example/", &cookie(&new)),
        ]),
        "it is of another site",
    );
    is_mistake(&recording(&[entry(chat, "")]), "export the HAR with sensitive data");
    is_mistake(&recording(&[]), "without cookies of chat.qwen.ai");
    // A copy that lacks its end.
    let whole = recording(&[entry(chat, &cookie(&new))]);
    is_mistake(whole.get(..whole.len() - 3).unwrap(), "begins like JSON");
}

/// Most of it is what the pages answered.
#[test]
fn a_recording_of_50_megabytes_is_one_account() {
    let t = format!("token={}", token(900));
    let page = "<p>A page. ".repeat(4_500_000);
    let text = format!(
        r#"{{"log": {{"entries": [
            {{"request": {{"url": "https://cdn.example/", "headers": []}}, "response": {{"content": {{"text": "{page}"}}}}}},
            {{"request": {{"url": "https://chat.qwen.ai/", "headers": [{{"name": "cookie", "value": "{t}"}}]}}}}]}}}}"#
    );
    assert!(text.len() > 49_000_000);
    assert_eq!(told(&text), Ok(vec![t]));
}

#[test]
fn exports_of_extensions() {
    let t = token(900);
    let of = |name: &str, value: &str, domain: &str| {
        format!(
            r#"{{"domain": "{domain}", "expirationDate": 1830000000.25, "hostOnly": true, "httpOnly": true, "name": "{name}", "path": "/", "sameSite": "no_restriction", "secure": true, "session": false, "storeId": "0", "value": "{value}"}}"#
        )
    };
    let all = [of("cna", "1", ".qwen.ai"), of("token", &t, "chat.qwen.ai"), of("NID", "x", ".google.com")].join(",\n");
    let pairs = ["cna=1".to_owned(), format!("token={t}")];
    let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
    is_account(&format!("[{all}]"), &pairs);
    is_account(&format!("```json\n[\n{all}\n]\n```"), &pairs);
    is_account(&format!("{{\"url\": \"https://chat.qwen.ai\", \"cookies\": [{all}]}}"), &pairs);
    is_mistake(&format!("[{}]", of("NID", "x", ".google.com")), "it is of another site");
    is_mistake(&format!("[{}]", of("cna", "1", ".qwen.ai")), "`token` or `refresh_token` is missing");
    let netscape = format!(
        "# Netscape HTTP Cookie File\r\n# This is a generated file! Do not edit.\r\n\r\n#HttpOnly_.qwen.ai\tTRUE\t/\tTRUE\t1830000000\tcna\t1\r\n#HttpOnly_chat.qwen.ai\tFALSE\t/\tTRUE\t0\ttoken\t{t}\r\n.google.com\tTRUE\t/\tTRUE\t0\tNID\tx\r\n"
    );
    is_account(&netscape, &pairs);
}

#[test]
fn pairs_and_headers_over_several_lines() {
    let t = token(900);
    let pairs = ["cna=1".to_owned(), format!("token={t}")];
    let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
    is_account(&format!("cna=1\ntoken={t}\n"), &pairs);
    is_account(&format!("token: {t}\r\ncna: 1\r\n"), &pairs);
    is_account(&format!("cna\t1\ntoken\t{t}"), &pairs);
    is_account(&format!("\"cna=1\",\n\"token={t}\""), &pairs);
    // A mail or a chat program wraps at its width.
    let header = format!("cna=1; token={t}");
    for width in [72, 78, 100] {
        let wrapped: Vec<&str> =
            header.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
        is_account(&wrapped.join("\n"), &pairs);
        is_account(&format!("Cookie: {}", wrapped.join("\r\n  ")), &pairs);
    }
    is_mistake("SID=1; HSID=2", "`token` or `refresh_token` is missing");
}

#[test]
fn every_encoding_that_windows_writes() {
    let text = format!("cna=1; token={}", token(900));
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let marked = |mark: &[u8], bytes: &[u8]| [mark, bytes].concat();
    for bytes in [
        text.clone().into_bytes(),
        marked(b"\xef\xbb\xbf", text.as_bytes()),
        marked(b"\xff\xfe", &little),
        marked(b"\xfe\xff", &big),
        little,
        big,
    ] {
        assert_eq!(decoded(bytes).as_deref(), Some(&*text));
    }
}

#[test]
fn tokens_that_are_cut_off_or_have_ended_are_told_once() {
    let (live, ended) = (token(900), token(-7200));
    let short = live.get(..live.len() - 10).unwrap();
    for text in [
        format!("token={short}"),
        short.to_owned(),
        format!("cna=1; token={}...", live.get(..40).unwrap()),
        format!("curl 'https://chat.qwen.ai/' -b 'token={}…'", live.get(..40).unwrap()),
        format!("[{{\"name\": \"token\", \"value\": \"{short}\", \"domain\": \"chat.qwen.ai\"}}]"),
    ] {
        is_mistake(&text, "The value of `token` is cut off");
    }
    for text in [format!("cna=1; token={ended}"), ended.clone(), format!("Authorization: Bearer {ended}")] {
        is_mistake(&text, "Its token ended 2 hours ago");
    }
}
