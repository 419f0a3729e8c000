//! The only way out for text that an upstream wrote.
//!
//! An upstream may repeat anything that it was sent, or that its own servers know: tokens, cookies, addresses, the
//! prompt. So its text is kept in a [`Quote`], which cannot be printed; only [`cleaned`] gives parts of it out. Logs
//! get the class of a failure and [`known_code`], never a text. Called by [`crate::upstream::error`].

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use regex_lite::{Captures, Regex};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// Text of an upstream, unchanged. Cannot be printed.
#[derive(Clone, Default)]
pub struct Quote(Option<Box<Texts>>);

#[derive(Clone)]
struct Texts {
    raw: String,
    /// The result of [`Quote::clean`], which may be shown.
    clean: String,
}

impl Quote {
    /// Keeps the beginning of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let texts = || Texts { raw: text.chars().take(RAW_CHARS_MAX).collect(), clean: String::new() };
        Self((!text.is_empty()).then(|| Box::new(texts())))
    }

    /// Whether the upstream sent no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Sets [`Quote::shown`] to the cleaned text; to nothing if `asked` is longer than [`ASKED_BYTES_MAX`], since every
    /// run of it has to be looked at.
    pub fn clean(&mut self, secrets: &[SecretString], asked: &[Cow<'_, str>]) {
        let is_short = asked.iter().map(|text| text.len()).sum::<usize>() <= ASKED_BYTES_MAX;
        if let Some(texts) = self.0.as_mut().filter(|_| is_short) {
            texts.clean = cleaned(&texts.raw, secrets, asked);
        }
    }

    /// The text that may be shown: empty before [`Quote::clean`], else one line of at most [`SHOWN_CHARS_MAX`]
    /// characters.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.0.as_ref().map_or("", |texts| &texts.clean)
    }

    /// The text as the upstream sent it.
    #[cfg(test)]
    pub(crate) fn raw(&self) -> &str {
        self.0.as_ref().map_or("", |texts| &texts.raw)
    }
}

impl fmt::Debug for Quote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quote")
    }
}

/// The code of a failure, if it is one that an upstream is known to use; any other may be a text in disguise.
#[must_use]
pub(crate) fn known_code(code: &str) -> Option<&'static str> {
    CODES.iter().find(|known| known.eq_ignore_ascii_case(code.trim())).copied()
}

/// The part of an upstream's text that may be shown: one line of at most [`SHOWN_CHARS_MAX`] characters, `[…]` in place
/// of everything that may be secret.
///
/// `secrets` are removed as a whole, and their parts in any case, spacing or quoting. A run of `asked`, the texts of the
/// request, is removed if it is longer than a few words. Removed by their form are addresses with and without a scheme,
/// e-mail addresses, credentials after words such as `Bearer` and `token=`, JWTs, long values of pairs, and long runs
/// without a meaning. The text ends before JSON or markup. Empty when nothing readable is left.
#[must_use]
pub(crate) fn cleaned(text: &str, secrets: &[SecretString], asked: &[Cow<'_, str>]) -> String {
    let plain = plain(text);
    let readable = readable(&plain);
    let mut clean = readable.into_owned();
    for secret in secrets.iter().map(ExposeSecret::expose_secret).filter(|secret| secret.len() >= SECRET_BYTES_MIN) {
        clean = clean.replace(secret, MARK);
    }
    let parts: Vec<_> = secrets.iter().map(|secret| Cow::Borrowed(secret.expose_secret())).collect();
    clean = without_runs(&clean, &parts, SECRET_RUN);
    clean = without_runs(&clean, asked, RUN);
    clean = without_forms(&clean);
    let line = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    if !line.replace(MARK, "").contains(char::is_alphanumeric) {
        return String::new();
    }
    line.chars().take(SHOWN_CHARS_MAX).collect()
}

/// All texts in JSON that is sent, for the `asked` of [`cleaned`].
#[must_use]
pub(crate) fn texts_of<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<Cow<'a, str>> {
    let mut texts = Vec::new();
    let mut left: Vec<&Value> = values.collect();
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) => texts.push(Cow::Borrowed(text.as_str())),
            Value::Array(values) => left.extend(values),
            Value::Object(values) => left.extend(values.values()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    texts
}

/// The text without invisible characters, which could break a secret apart for the eyes of [`cleaned`] only, and with
/// spaces for control characters.
fn plain(text: &str) -> String {
    let visible = text.chars().filter(|c| !is_invisible(*c));
    visible.map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c }).collect()
}

/// Marks that turn the reading direction, join or separate without a width, or tag: Unicode's category Cf and kin.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// The text up to the first JSON or markup in it. A list of texts, as one upstream writes what it minds, is read.
fn readable(text: &str) -> Cow<'_, str> {
    match serde_json::from_str(text) {
        Ok(Value::Array(list)) => {
            let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            return Cow::Owned(texts.unwrap_or_default().join("; "));
        }
        Ok(Value::Object(_)) => return Cow::Borrowed(""),
        Ok(_) | Err(_) => {}
    }
    let bytes = text.as_bytes();
    let next = |at: usize| bytes.get(at + 1..).and_then(|rest| rest.iter().find(|byte| **byte != b' ')).copied();
    let is_end = |(at, byte): (usize, &u8)| match byte {
        b'{' => matches!(next(at), Some(b'"' | b'\'' | b'}' | b'\\')),
        b'[' => matches!(next(at), Some(b'"' | b'\'' | b'{' | b'[' | b'\\')),
        b'<' => next(at).is_some_and(|byte| byte.is_ascii_alphabetic() || b"!/?".contains(&byte)),
        _ => false,
    };
    let end = bytes.iter().enumerate().position(is_end).unwrap_or(bytes.len());
    Cow::Borrowed(text.get(..end).unwrap_or_default())
}

/// The text without runs of these parts.
///
/// Compared are letters and digits alone, without regard to case. A run counts from `length` of them, from [`WIDE_RUN`]
/// where all are beyond ASCII, which for Chinese is as much, and from the whole of a shorter part.
fn without_runs(text: &str, parts: &[Cow<'_, str>], length: usize) -> String {
    let letters: Vec<(usize, char)> = text.char_indices().filter_map(|(at, c)| Some((at, letter(c)?))).collect();
    let chars: Vec<char> = letters.iter().map(|(_, c)| *c).collect();
    let mut is_theirs = vec![false; chars.len()];
    for part in parts {
        let part: Vec<char> = part.chars().filter_map(letter).collect();
        for (run, is_wide) in [(length.min(part.len()), false), (WIDE_RUN, true)] {
            if run < RUN_MIN || chars.len() < run || part.len() < run {
                continue;
            }
            let counts = |window: &&[char]| !is_wide || window.iter().all(|c| !c.is_ascii());
            let said: HashSet<&[char]> = chars.windows(run).filter(counts).collect();
            let repeated: HashSet<&[char]> = part.windows(run).filter(|window| said.contains(window)).collect();
            for (at, _) in chars.windows(run).enumerate().filter(|(_, window)| repeated.contains(window)) {
                is_theirs.iter_mut().skip(at).take(run).for_each(|is| *is = true);
            }
        }
    }
    let mut kept = String::with_capacity(text.len());
    let mut done = 0;
    for run in letters.iter().zip(&is_theirs).collect::<Vec<_>>().chunk_by(|(_, a), (_, b)| a == b) {
        let (Some(((start, _), true)), Some(((last, c), _))) = (run.first(), run.last()) else {
            continue;
        };
        kept.push_str(text.get(done..*start).unwrap_or_default());
        kept.push_str(MARK);
        done = last + text.get(*last..).and_then(|rest| rest.chars().next()).map_or(c.len_utf8(), char::len_utf8);
    }
    kept.push_str(text.get(done..).unwrap_or_default());
    kept
}

/// A letter or digit in lower case.
fn letter(c: char) -> Option<char> {
    c.is_alphanumeric().then(|| c.to_lowercase().next().unwrap_or(c))
}

/// The text without what is a secret by its form.
fn without_forms(text: &str) -> String {
    let mut text = text.to_owned();
    for form in FORMS {
        text = regex(form).replace_all(&text, MARK).into_owned();
    }
    let judged = |form: &str, text: &str, is_secret: fn(&str) -> bool| {
        let replaced = |found: &Captures<'_>| {
            let found = found.get(0).map_or("", |found| found.as_str());
            if is_secret(found) { MARK.to_owned() } else { found.to_owned() }
        };
        regex(form).replace_all(text, replaced).into_owned()
    };
    let text = judged(DOTTED, &text, is_name);
    judged(RUNS, &text, is_opaque)
}

fn regex(form: &str) -> Regex {
    #[expect(clippy::expect_used, reason = "constants, each compiled in every test run")]
    Regex::new(form).expect("constant expression")
}

/// Whether words with dots between them are a name of something, and not a number.
fn is_name(text: &str) -> bool {
    !is_model(text) && !text.chars().all(|c| c.is_ascii_digit() || ".,%".contains(c))
}

fn is_model(text: &str) -> bool {
    text.len() <= MODEL_CHARS_MAX && MODELS.iter().any(|model| text.starts_with(model)) && !text.contains(['/', ':'])
}

/// Whether a run of characters that has no space in it says nothing to people: keys, ids, digests, encoded texts.
/// Names of models do not count, and neither do codes such as `context_length_exceeded`.
pub(crate) fn is_opaque(run: &str) -> bool {
    let has = |is: fn(char) -> bool| run.contains(is);
    let has_digit = has(|c| c.is_ascii_digit());
    let longest_part = run.split(['-', '_', '.', ':', '/']).map(str::len).max().unwrap_or_default();
    let is_number = run.chars().all(|c| c.is_ascii_digit());
    (has_digit && has(|c| c.is_ascii_alphabetic()) && run.len() >= OPAQUE_CHARS_MIN && !is_model(run))
        || (is_number && run.len() >= NUMBER_CHARS_MIN)
        || longest_part >= WORD_CHARS_MAX
        || (has(|c| "+/=%\\".contains(c)) && run.len() >= OPAQUE_CHARS_MIN)
}

/// Replaces each part that was removed.
const MARK: &str = "[…]";
/// Longest text that is shown, in characters.
pub(crate) const SHOWN_CHARS_MAX: usize = 200;
/// Longest text that is kept, in characters.
const RAW_CHARS_MAX: usize = 2000;
/// Most text of a request, in bytes, that an upstream's text is compared with: more would hold up a thread for long.
const ASKED_BYTES_MAX: usize = 1024 * 1024;
/// Shorter secrets are common words, such as the `en` of a language cookie.
const SECRET_BYTES_MIN: usize = 6;
/// Letters and digits of the request's text that may not be repeated in a row: three or four words.
const RUN: usize = 16;
/// The same where each character is beyond ASCII.
const WIDE_RUN: usize = 8;
/// Letters and digits of a secret that may not be shown in a row: enough to find it again.
const SECRET_RUN: usize = 8;
/// Shorter texts of the request, and shorter secrets, are common words.
const RUN_MIN: usize = 6;
/// From this length on, a run of letters and digits is not a word.
const OPAQUE_CHARS_MIN: usize = 14;
/// The longest name of a model.
const MODEL_CHARS_MAX: usize = 40;
/// A run of this many digits may be the number of a person or an account.
const NUMBER_CHARS_MIN: usize = 9;
/// From this length on, a run of letters without a separator is not a word.
const WORD_CHARS_MAX: usize = 24;
/// Prefixes of the upstream's model names.
const MODELS: [&str; 4] = ["qwen", "qwq", "qvq", "wan"];

/// Patterns of secrets, in the order in which they are applied.
const FORMS: [&str; 12] = [
    // An address with a scheme.
    r"(?i)[a-z][a-z0-9+.-]*:/{1,2}\S*",
    // An e-mail address, or a user at a host.
    r"[^\s@<>]+ ?@ ?[^\s@<>]+",
    // A secret whose middle is masked: its ends tell enough to find it again.
    r"\S*[*•●∗]{3,}\S*",
    // A credential after its scheme.
    r"(?i)\b(?:bearer|basic|oss)[\s:=]+\S+",
    // A JWT, or the beginning of one.
    r"eyJ[\w-]{3,}(?:\.[\w-]*)*",
    // A key in the usual form.
    r"\b(?:sk|ak|pk|rk|STS|LTAI)[-.]?[\w-]*\d[\w-]*",
    // A pair whose name says that its value is secret.
    r#"(?i)["'`]?[\w.-]*(?:key|token|secret|passw(?:or)?d|pwd|cookie|session|credential|authorization|auth|signature|sig|ticket|umid|x5sec)[\w.-]*["'`]?\s*[=:]\s*["'`]?[^\s"'`,;&}]+"#,
    // Any pair with a long value.
    r#"[\w.-]+=[^\s,;&]{6,}"#,
    // An address of a machine, version 6 and 4, with or without port and path.
    r"\[?(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}\]?(?::\d+)?(?:/\S*)?",
    r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?:/\S*)?",
    // A host with a port.
    r"[\w.-]+:\d{2,5}\b(?:/\S*)?",
    // A path.
    r"\S*/\S*/\S*",
];
/// Words with dots between them and what follows: hosts in any alphabet.
const DOTTED: &str =
    r#"[^\s.,;:!?'"()\[\]<>，。；：！？（）“”…]+(?:\.[^\s.,;:!?'"()\[\]<>，。；：！？（）“”…]{2,})+(?:[:/?#]\S*)?"#;
/// Runs of characters that [`is_opaque`] judges.
const RUNS: &str = r"[A-Za-z0-9+/=_.~%:\\-]{9,}";

/// Codes of failures that upstreams are known to use: chat.qwen.ai, its OAuth, DashScope and OpenAI.
const CODES: [&str; 62] = [
    "AllocationQuota.FreeTierOnly",
    "Bad_Request",
    "CHAT_NOT_FOUND",
    "DataInspectionFailed",
    "ExceedLimit",
    "FAIL_SYS_USER_VALIDATE",
    "Forbidden",
    "InternalError",
    "Internal_Server_Error",
    "InvalidApiKey",
    "InvalidParameter",
    "Not_Found",
    "PARENT_NOT_FOUND",
    "ParallelLimited",
    "RateLimited",
    "RequestValidationError",
    "Throttling",
    "Throttling.AllocationQuota",
    "Throttling.BurstRate",
    "Throttling.RateQuota",
    "Throttling.User",
    "Too_Many_Requests",
    "Unauthorized",
    "access_denied",
    "authorization_pending",
    "codeadapter",
    "content_filter",
    "content_policy_violation",
    "context_length_exceeded",
    "data_inspection_failed",
    "expired_token",
    "insufficient_quota",
    "internal_error",
    "internal_server_error",
    "invalid_api_key",
    "invalid_client",
    "invalid_grant",
    "invalid_input",
    "invalid_parameter",
    "invalid_parameter_error",
    "invalid_request",
    "invalid_request_error",
    "invalid_scope",
    "invalid_token",
    "invalid_value",
    "limit_requests",
    "model_not_found",
    "model_not_supported",
    "permission_denied",
    "quotaLimited",
    "quota_exceeded",
    "quota_exhausted",
    "quota_limit",
    "rate_limit_error",
    "rate_limit_exceeded",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
    "token_expired",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_value",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let secrets = ["hunter-two!", "a.b-c~d", "en"].map(SecretString::from);
        let asked = [
            Cow::Borrowed("Please summarise: the blue heron sings at dawn."),
            Cow::Borrowed("请把这首诗翻译成英文，谢谢"),
        ];
        assert_eq!(cleaned(text, &secrets, &asked), expected, "{text}");
    }

    #[test]
    fn helpful_words_stay() {
        for text in [
            "Range of input length should be [1, 129024]",
            "输入或附件无效。请检查后重试。",
            "You've reached the upper limit for today's usage.",
            "Invalid file information!",
            "context_length_exceeded: the limit is 0.25 of 131072 tokens (temperature > 2 is not allowed)",
            "The model qwen3-coder-480b-a35b-instruct does not take pictures, try qwen3.5-omni-plus",
            "Field 'chat_id': Field required and/or wrong",
        ] {
            check(text, text);
        }
        check(r#"["Field 'chat_id': Field required", "x"]"#, "Field 'chat_id': Field required; x");
        check("内容安全警告：输入数据可能包含不适当的内容！", "内容安全警告：输入数据可能包含不适当的内容！");
    }

    #[test]
    fn secrets_go() {
        check("the cookie is hunter-two! now", "the cookie is […] now");
        check("got (a.b-c~d)", "got ([…])");
        check("hunter\u{200b}-two\u{2060}!", "");
        check("not HUNTER-TWO, nor Hunter Two or h'u'n't'e'r't'w'o", "not […], nor […] or […]");
        let key = ["gather4round2old9fire"].map(SecretString::from);
        for said in
            ["gath er4r ound 2old 9fir e", "g\na\nt\nh\ne\nr\n4\nr\no\nu\nn\nd", "ound2old", "GATHER4R", "2old9fire"]
        {
            assert_eq!(cleaned(&format!("the key {said} is wrong"), &key, &[]), "the key […] is wrong");
        }
        assert_eq!(cleaned("the old fire", &key, &[]), "the old fire");
        check("see https://user:pw@x.example/p?key=1#a now", "see […] now");
        check("see ftp:/x.example now", "see […] now");
        check("see //cdn.example.org/a/b and www.example.com, or example.co.uk/x?y.", "see […] and […], or […]");
        check("at 10.0.0.5:8080/x or [2001:db8::1]:443 or ::1 or redis:6379", "at […] or […] or […] or […]");
        check("на пример.рф/путь и в /etc/passwd/x", "на […] и в […]");
        check("mail bob@example.com or Bob (bob@localhost)", "mail […] or Bob […]");
        check("a Bearer abc, b basic: Zm9v", "a […] b […]");
        check("token eyJhbGciOi.eyJpZCI6.sig is expired", "token […] is expired");
        check("cut eyJhbGci", "cut […]");
        check("key sk-a1 and STS.NUabc1", "key […] and […]");
        check("Incorrect key provided: sk-abcde**********90ab.", "Incorrect key provided: […]");
        check("the key abcd•••••wxyz of bob @ example.com, not *this* one", "the key […] of […] not *this* one");
        check("api_key=abc; x-token: \"q\" 'password' : 'p w'", "[…]; […]\" […] w'");
        check("sid=abcdefgh&n=2", "[…]&n=2");
        check("id 3f2b8c1a-55d0-4c7d-9aa1-77ab01fe3c00 of 1234567890 is 4c7d1f90ab55d0", "id […] of […] is […]");
        check("x abcdefghijklmnopqrstuvwxyz y", "x […] y");
        check("%e4%bd%a0%e5%a5%bd and \\u4f60\\u597d\\u4f60", "[…] and […]");
    }

    #[test]
    fn what_was_asked_goes() {
        check("I cannot say 'The Blue  heron, sings at dawn.' here", "I cannot say '[…].' here");
        check("blue heron", "blue heron");
        check("不能「把这首诗翻译成英文」", "不能「[…]」");
        assert_eq!(cleaned("no: s3same", &[], &[Cow::Borrowed("S3SAME")]), "no: […]");
        assert_eq!(cleaned("the model", &[], &[Cow::Borrowed("model")]), "the model");
    }

    #[test]
    fn json_and_markup_end_the_text() {
        check(r#"{"user": "bob", "n": 1}"#, "");
        check(r#"[{"user": "bob"}]"#, "");
        check(r#"[1, "x"]"#, "");
        check(r#"bad request { "user": "bob" } end"#, "bad request");
        check("bad <b>request</b>", "bad");
        check("a <!-- b", "a");
        check("5 < 6 and [1, 2]", "5 < 6 and [1, 2]");
    }

    #[test]
    fn one_short_line_without_marks() {
        check("a\r\nb\u{1b}[31m\u{202e}c\u{2028}d", "a b [31mc d");
        assert_eq!(cleaned(&"ü ".repeat(500), &[], &[]).chars().count(), SHOWN_CHARS_MAX);
        check("https://x.example", "");
        check("…!?", "");
        let mut quote = Quote::of(&"x ".repeat(5000));
        assert_eq!((quote.raw().len(), quote.shown()), (RAW_CHARS_MAX, ""));
        quote.clean(&[], &[]);
        assert!(quote.shown().starts_with("x x") && format!("{quote:?}") == "Quote");
        let mut quote = Quote::of("too long");
        quote.clean(&[], &["a".repeat(ASKED_BYTES_MAX).into(), "b".into()]);
        assert_eq!(quote.shown(), "", "longer than is compared");
        quote.clean(&[], &["a".repeat(100).into()]);
        assert_eq!(quote.shown(), "too long");
    }

    #[test]
    fn codes() {
        assert_eq!(known_code(" ratelimited "), Some("RateLimited"));
        assert_eq!(known_code("sk-1"), None);
        assert_eq!(known_code(""), None);
    }

    #[test]
    fn texts_of_a_body() {
        let body = serde_json::json!({"model": "m", "messages": [{"content": [{"text": "a\nb"}]}], "n": 1});
        let mut texts = texts_of(std::iter::once(&body));
        texts.sort();
        assert_eq!(texts, ["a\nb", "m"]);
    }
}
