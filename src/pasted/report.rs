//! The answer to a person who pastes one account, without a call to the upstream: what the text is, what is missing and
//! where it is found.

use crate::base::bilingual::Bilingual;
use crate::base::facts::AccountKind;
use crate::base::ids::UnixSeconds;
use crate::base::oauth::OAuthCredentials;
use crate::base::secret::Cookie;
use crate::pasted::{Form, Given, Mistake, Pasted, SignIn, owner_of, read, shortened};

/// A credential that can be tried.
pub(crate) enum Credential {
    /// The Cookie header of a browser at the web chat.
    Web(Cookie),
    /// The credentials of an OAuth account.
    OAuth(Box<OAuthCredentials>),
}

/// The result of reading a text. Holds the credential, but its texts hold no secret.
pub(crate) struct Report {
    /// Sentence about what was recognised, such as a Cookie header.
    pub(crate) recognised: Bilingual,
    /// The missing or wrong part, and where the right one is found; `None` when the credential can be tried.
    pub(crate) missing: Option<Bilingual>,
    /// The kind of account, as far as it is known.
    pub(crate) kind: Option<AccountKind>,
    /// The start of the account's user id, to tell two accounts apart.
    pub(crate) label: Option<String>,
    /// End of the access token; `None` for one that is renewed, or whose end is unknown.
    pub(crate) expires_at: Option<UnixSeconds>,
    /// The credential; `None` when something is missing.
    pub(crate) credential: Option<Credential>,
}

/// Reads a text with one account at `now`. Text around the account is skipped.
#[must_use]
pub(crate) fn report(text: &str, now: UnixSeconds) -> Report {
    let parts: Vec<Pasted> = read(text);
    let mut whole = Vec::new();
    let mut lacking = None;
    let mut mistake: Option<Mistake> = None;
    for part in parts {
        match part.given {
            Err(found) => {
                // A command without a cookie tells more than an unknown line.
                let says_more = mistake.is_none_or(|known| known == Mistake::Unknown);
                mistake = if says_more { Some(found) } else { mistake };
            }
            Ok(given) => match judged(part.form, given, now) {
                Ok(report) if report.missing.is_none() => whole.push(report),
                Ok(report) => lacking = lacking.or(Some(report)),
                Err(found) => mistake = mistake.or(Some(found)),
            },
        }
    }
    match (whole.len(), whole.pop(), lacking, mistake) {
        (1, Some(report), ..) | (0, None, Some(report), _) => report,
        (0, ..) => nothing(mistake.unwrap_or(Mistake::Empty)),
        (count, ..) => several(count),
    }
}

fn judged(form: Option<Form>, given: Given, now: UnixSeconds) -> Result<Report, Mistake> {
    let form_told = Form::told(form);
    let header = match given {
        Given::OAuth(json) => {
            let credentials = OAuthCredentials::of_stored(&json, now).ok_or(Mistake::BrokenJson)?;
            let expires_at = credentials.expires_at().map(|at| at.seconds());
            let can_renew = credentials.refresh_token().is_some();
            let ended = expires_at.filter(|at| *at <= now && !can_renew);
            return Ok(Report {
                recognised: form_told,
                missing: ended.map(|at| over(at, now)),
                kind: Some(AccountKind::OAuth),
                label: None,
                expires_at: expires_at.filter(|_| !can_renew),
                credential: ended.is_none().then(|| Credential::OAuth(Box::new(credentials))),
            });
        }
        Given::Cookie(header) => header,
    };
    let cookie = match (Cookie::parse(&header), shortened(&header)) {
        (Ok(cookie), _) => cookie,
        (Err(_), Some(name)) => {
            let missing = Some(cut_off(name));
            let (label, expires_at, credential) = (None, None, None);
            return Ok(Report {
                recognised: form_told,
                missing,
                kind: Some(AccountKind::Web),
                label,
                expires_at,
                credential,
            });
        }
        (Err(_), None) => return Err(Mistake::Unknown),
    };
    let sign_in = SignIn::of(&cookie, now);
    let label = owner_of(&cookie, now).and_then(|token| token.account().map(short));
    let (missing, expires_at) = match sign_in {
        SignIn::Renewed => (None, None),
        SignIn::Until(at) => (None, at),
        SignIn::Missing => (Some(no_sign_in()), None),
        SignIn::CutOff(name) => (Some(cut_off(name)), None),
        SignIn::Ended(at) => (Some(over(at, now)), Some(at)),
    };
    let by = match sign_in {
        SignIn::Renewed => Some("refresh_token"),
        SignIn::Until(_) if form != Some(Form::Token) => Some("token"),
        _ => None,
    };
    let recognised = match by {
        Some(name) => Bilingual::new(format!("{} with {name}", form_told.en), format!("{}，含 {name}", form_told.zh)),
        None => form_told,
    };
    let credential = missing.is_none().then_some(Credential::Web(cookie));
    Ok(Report { recognised, missing, kind: Some(AccountKind::Web), label, expires_at, credential })
}

/// The first characters of a user id.
fn short(account: &str) -> String {
    format!("user {}", account.chars().take(LABEL_CHARS).collect::<String>())
}

fn nothing(mistake: Mistake) -> Report {
    let told = mistake.told();
    let missing = Bilingual::new(WHERE_EN, WHERE_ZH);
    Report { recognised: told, missing: Some(missing), kind: None, label: None, expires_at: None, credential: None }
}

fn several(count: usize) -> Report {
    let missing = Bilingual::new("Paste one account at a time.", "请一次只粘贴一个账号。");
    let recognised = Bilingual::new(format!("{count} accounts"), format!("{count} 个账号"));
    Report { recognised, missing: Some(missing), kind: None, label: None, expires_at: None, credential: None }
}

fn no_sign_in() -> Bilingual {
    Bilingual::new(
        format!(
            "The cookie `token` or `refresh_token` is missing: the tab is not logged in, or only a part was copied. \
             {WHERE_EN}"
        ),
        format!("缺少名为 token 或 refresh_token 的 Cookie：页面没有登录，或者只复制了一部分。{WHERE_ZH}"),
    )
}

fn cut_off(name: &str) -> Bilingual {
    Bilingual::new(
        format!("The value of `{name}` is cut off: copy it whole. {WHERE_EN}"),
        format!("{name} 的值不完整，请完整复制。{WHERE_ZH}"),
    )
}

fn over(at: UnixSeconds, now: UnixSeconds) -> Bilingual {
    let hours = now.seconds_since(at) / 3600;
    let (en, zh) = match hours {
        0 => ("less than an hour".to_owned(), "不到一小时".to_owned()),
        1..48 => (format!("{hours} hours"), format!("{hours} 小时")),
        _ => (format!("{} days", hours / 24), format!("{} 天", hours / 24)),
    };
    Bilingual::new(
        format!("Its token ended {en} ago: log in at chat.qwen.ai again. {WHERE_EN}"),
        format!("令牌已在{zh}前过期，请在 chat.qwen.ai 重新登录。{WHERE_ZH}"),
    )
}

/// Number of characters of a user id that are shown.
const LABEL_CHARS: usize = 6;
const WHERE_EN: &str = "Log in at chat.qwen.ai, open the developer tools (F12), tab Network, reload, click a request to \
                        chat.qwen.ai and copy the whole value of Cookie under Request Headers; or use Copy as cURL.";
const WHERE_ZH: &str = "请登录 chat.qwen.ai，打开开发者工具（F12）的“网络”标签页，刷新页面，点开任意一个发往 \
                        chat.qwen.ai 的请求，完整复制请求头中 Cookie 的值；也可以用“复制为 cURL”。";

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn jwt(exp: i64) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        let claims = URL_SAFE_NO_PAD.encode(format!("{{\"id\":\"3f2a91bc-secret\",\"exp\":{exp}}}"));
        format!("{header}.{claims}.{}", "s".repeat(43))
    }

    /// The sentences about a text: `recognised | the start of what is missing | kind label end`.
    fn told(text: &str) -> String {
        let report = report(text, NOW);
        let missing = report.missing.map_or("-".to_owned(), |missing| {
            assert!(!missing.zh.is_empty() && !missing.en.contains("secret") && !missing.zh.contains("secret"));
            missing.en.split([':', '.']).next().unwrap().to_owned()
        });
        assert_eq!(missing == "-", report.credential.is_some(), "{text}");
        let kind = report.kind.map_or("-", AccountKind::as_str);
        let until = report.expires_at.map_or(0, |at| at.0 - NOW.0);
        format!("{} | {missing} | {kind} {} {until}", report.recognised.en, report.label.as_deref().unwrap_or("-"))
    }

    #[test]
    fn each_paste_is_told_in_one_sentence() {
        let check = |text: &str, expected: &str| assert_eq!(told(text), expected, "{text}");
        let (live, ended) = (jwt(NOW.0 + 900), jwt(NOW.0 - 3 * 24 * 3600));
        check(&format!("cna=1; token={live}"), "a Cookie header with token | - | web user 3f2a91 900");
        check("Cookie: refresh_token=r; cna=1", "a Cookie header with refresh_token | - | web - 0");
        check(&live, "an access token | - | web user 3f2a91 900");
        check(&format!("Bearer {live}"), "an access token | - | web user 3f2a91 900");
        check(
            &format!("curl 'https://chat.qwen.ai/' -b 'token={live}'"),
            "a cURL command with token | - | web user 3f2a91 900",
        );
        check(r#"{"access_token": "a", "refresh_token": "r", "expiry_date": 1}"#, "OAuth credentials | - | oauth - 0");
        // Texts that lack something.
        check("cna=1; isg=2", "a Cookie header | The cookie `token` or `refresh_token` is missing | web - 0");
        check(&format!("token={ended}"), "a Cookie header | Its token ended 3 days ago | web user 3f2a91 -259200");
        check(&ended, "an access token | Its token ended 3 days ago | web user 3f2a91 -259200");
        check(live.get(..60).unwrap(), "an access token | The value of `token` is cut off | web - 0");
        check(
            r#"{"access_token": "a", "expiry_date": 1799990000000}"#,
            "OAuth credentials | Its token ended 2 hours ago | oauth - -10000",
        );
        check(
            &format!("# two\ntoken={live}; cna=1\ntoken={live}; cna=2"),
            "2 accounts | Paste one account at a time | - - 0",
        );
        let nothing = "| Log in at chat | - - 0";
        check("", &format!("Nothing was pasted. {nothing}"));
        check(
            "curl 'https://www.google.com/' -H 'cookie: SID=x'",
            &format!("This has no cookie of chat.qwen.ai: it is of another site. {nothing}"),
        );
        check(
            "<!DOCTYPE html>\n<html>\n<body>",
            &format!("This is the source of a web page and not a cookie. {nothing}"),
        );
        check("hello\nthere", &format!("This is not a Cookie header (expected name=value; name=value). {nothing}"));
    }

    #[test]
    fn words_around_an_account_do_not_hide_it() {
        let live = jwt(NOW.0 + 900);
        for text in [
            format!("here it is:\n\ntoken={live}; cna=1\n\nbye"),
            format!("hello\ncurl 'https://chat.qwen.ai/' \\\n -H 'cookie: token={live}'\nthanks"),
        ] {
            assert!(told(&text).contains("| - | web user 3f2a91 900"), "{}", told(&text));
        }
    }
}
