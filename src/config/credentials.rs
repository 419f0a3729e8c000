//! From `COOKIE`, `cookie.txt` and `QWEN_TOKEN` to identities, and from the key settings to a set of keys.

use crate::base::caller_key::{KeyLimits, KeyName, NamedKey, split_name};
use crate::base::ids::UnixSeconds;
use crate::base::quotes::unquoted;
use crate::base::secret::{AccessToken, ApiKey, Cookie, SecretError};
use crate::base::seed::IdentitySeed;
use crate::config::fault::{Fault, Origin};
use crate::config::values::Value;
use crate::pasted::{self, Pasted};

/// The credentials found so far, and what was noticed on the way.
#[derive(Default)]
pub(super) struct Credentials {
    cookies: Vec<Cookie>,
    tokens: Vec<AccessToken>,
    keys: Vec<GivenKey>,
    /// Where the value that is being added came from; `None` for the cookie file, whose places say it themselves.
    pub(super) origin: Option<Origin>,
    /// What cannot be used.
    pub(super) faults: Vec<Fault>,
    /// What was left out.
    pub(super) warnings: Vec<String>,
    /// What was given in another form than a Cookie header, and how it was understood.
    pub(super) notes: Vec<String>,
}

/// One entry of a key setting.
struct GivenKey {
    /// `None` for a bare key.
    name: Option<KeyName>,
    key: ApiKey,
    place: String,
    origin: Option<Origin>,
}

impl Credentials {
    /// Takes the value of `COOKIE`, in any form that [`pasted`] reads. An array holds one account an element. A text is
    /// split at `|||`, else at line ends, else at a written-out `\n`. Entries that begin with `#` are dropped.
    pub(super) fn add_cookie_setting(&mut self, value: &Value) {
        let entries: Vec<String> = match value {
            Value::List(entries) => entries.clone(),
            Value::Table(table) => match serde_json::to_string(table) {
                Ok(json) => vec![json],
                Err(_) => return,
            },
            Value::Text(text) => {
                let text = unquoted(text);
                if text.contains("|||") {
                    text.split("|||").map(str::to_owned).collect()
                } else {
                    self.add_cookie_text(text);
                    return;
                }
            }
        };
        for (index, entry) in entries.iter().enumerate() {
            let place = format!("COOKIE entry {}", index + 1);
            match <[Pasted; 1]>::try_from(pasted::read(entry)) {
                Ok([one]) if one.form.is_some() => self.add_pasted(one, &place),
                _ => {
                    // A comment may stand on a line of its own before a cookie of the same entry.
                    let lines: Vec<&str> = entry.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
                    self.add_cookie(unquoted(&lines.join("")), &place);
                }
            }
        }
    }

    fn add_cookie_text(&mut self, text: &str) {
        let mut found = pasted::read(text);
        if !text.contains('\n') && found.iter().all(|one| one.form.is_none()) {
            found = pasted::read(&text.replace("\\n", "\n"));
        }
        for one in found {
            let place = format!("COOKIE entry {}", one.first_line);
            self.add_pasted(one, &place);
        }
    }

    /// Takes the text of `cookie.txt`, or of what stands in for it, in any form that [`pasted`] reads: usually one
    /// header a line, `#` begins a comment line.
    pub(super) fn add_cookie_file(&mut self, name: &str, text: &str) {
        for one in pasted::read(text) {
            let place = match (one.first_line, one.last_line) {
                (first, last) if first == last => format!("{name} line {first}"),
                (first, last) => format!("{name} lines {first} to {last}"),
            };
            self.add_pasted(one, &place);
        }
    }

    fn add_pasted(&mut self, one: Pasted, place: &str) {
        match one.header {
            Ok(header) => {
                if let Some(form) = one.form {
                    self.notes.push(format!("{place}: read as {form}, one account"));
                }
                self.add_cookie(&header, place);
            }
            Err(problem) => self.add_fault(place, problem, COOKIE_MEND),
        }
    }

    fn add_cookie(&mut self, text: &str, place: &str) {
        let cleaned = clean(text);
        if cleaned.is_empty() || cleaned.starts_with('#') {
            return;
        }
        match Cookie::parse(&cleaned) {
            Ok(cookie) if self.cookies.iter().any(|known| known.key() == cookie.key()) => {
                self.warnings.push(format!("{place} repeats an earlier cookie and is left out"));
            }
            Ok(cookie) => self.cookies.push(cookie),
            Err(error) => {
                let is_token = error == SecretError::NotACookie && cleaned.starts_with("eyJ");
                let mend = if is_token { "a token on its own belongs into QWEN_TOKEN" } else { COOKIE_MEND };
                self.add_fault(place, error.to_string(), mend);
            }
        }
    }

    /// Takes the parts of `QWEN_TOKEN`.
    pub(super) fn add_tokens(&mut self, parts: &[String], now: UnixSeconds) {
        for (index, part) in parts.iter().enumerate() {
            let place = format!("QWEN_TOKEN entry {}", index + 1);
            let text = match part.split_once([' ', '=']) {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") || scheme == "token" => token,
                _ => part,
            };
            match AccessToken::parse(text, now) {
                Ok(token) if self.tokens.iter().any(|known| known.expose() == token.expose()) => {
                    self.warnings.push(format!("{place} repeats an earlier token and is left out"));
                }
                Ok(token) => {
                    if !token.is_live(now) {
                        self.warnings.push(format!("{place} has expired"));
                    }
                    self.tokens.push(token);
                }
                Err(error) => {
                    self.add_fault(place, error.to_string(), "paste the value of the cookie `token` of chat.qwen.ai");
                }
            }
        }
    }

    /// Takes the parts of one of the key settings: `name=key`, or a key alone. A key that is given again is the same one;
    /// it takes the name that it has in one of the places.
    pub(super) fn add_keys(&mut self, setting: &str, parts: &[String]) {
        for (index, part) in parts.iter().enumerate() {
            let place = format!("{setting} entry {}", index + 1);
            let (name, key) = split_name(part);
            if key.len() > KEY_BYTES_MAX || !key.bytes().all(|b| (0x21..0x7f).contains(&b)) {
                self.add_fault(
                    place,
                    format!("must be printable ASCII without spaces, at most {KEY_BYTES_MAX} bytes"),
                    "choose another key, for example with: openssl rand -hex 24",
                );
                continue;
            }
            let origin = self.origin;
            match self.keys.iter_mut().find(|known| known.key.matches(key)) {
                None => self.keys.push(GivenKey { name, key: ApiKey::new(key), place, origin }),
                Some(known) => match (&known.name, name) {
                    (Some(one), Some(other)) if *one != other => {
                        let problem = format!("has the key of {one} ({}) under the name {other}", known.place);
                        self.add_fault(place, problem, "give each key one name");
                    }
                    (None, Some(name)) => known.name = Some(name),
                    _ => {}
                },
            }
        }
    }

    /// The keys with their names and limits, each once. A key without a name is `key-N` by its place among all of them.
    pub(super) fn named_keys(&mut self, limits: &[(KeyName, KeyLimits)]) -> Vec<NamedKey> {
        let mut named: Vec<NamedKey> = Vec::new();
        for (place, given) in (1..).zip(std::mem::take(&mut self.keys)) {
            let name = given.name.unwrap_or_else(|| KeyName::numbered(place));
            if named.iter().any(|known| known.name == name) {
                let problem = format!("is a second key with the name {name}");
                let fault = Fault::at(given.place, problem, "give each key a name of its own");
                self.faults.push(Fault { origin: given.origin, ..fault });
                continue;
            }
            let limits = limits.iter().find(|(limited, _)| *limited == name).map(|(_, limits)| limits.clone());
            let limits = limits.unwrap_or_default();
            named.push(NamedKey { name, key: given.key, limits, is_generated: false });
        }
        named
    }

    fn add_fault(&mut self, place: impl Into<String>, problem: impl Into<String>, mend: impl Into<String>) {
        self.faults.push(Fault { origin: self.origin, ..Fault::at(place, problem, mend) });
    }

    /// Joins cookies and tokens of the same account: cookies in their order first, then the tokens if there are no cookies.
    /// A token beside cookies that joins none of them is left out: where its account is one of theirs and does not tell,
    /// it would be used twice.
    pub(super) fn identities(&mut self, now: UnixSeconds) -> Vec<IdentitySeed> {
        let (cookies, tokens) = (std::mem::take(&mut self.cookies), std::mem::take(&mut self.tokens));
        let is_one_pair = cookies.len() == 1 && tokens.len() == 1;
        let has_cookies = !cookies.is_empty();
        let mut owners: Vec<Option<AccessToken>> = Vec::new();
        let mut seeds: Vec<IdentitySeed> = Vec::new();
        for cookie in cookies {
            let owner = owner_of(&cookie, now);
            let is_same = |known: &Option<AccessToken>| {
                let both = known.as_ref().zip(owner.as_ref());
                both.is_some_and(|(known, owner)| is_same_account(known, owner))
            };
            match seeds.iter_mut().zip(&owners).enumerate().find(|(_, (_, known))| is_same(known)) {
                Some((place, (seed, _))) => {
                    self.warnings.push(format!(
                        "two cookies are of one account: the later one is a spare of cookie {}",
                        place + 1
                    ));
                    seed.spares.push(cookie);
                }
                None => {
                    owners.push(owner);
                    seeds.push(IdentitySeed { cookie: Some(cookie), token: None, spares: Vec::new() });
                }
            }
        }
        for (index, token) in tokens.into_iter().enumerate() {
            let joins = seeds.iter_mut().zip(&owners).find(|(_, owner)| match owner {
                Some(owner) => is_same_account(owner, &token),
                None => is_one_pair,
            });
            match joins {
                Some((seed, _)) if seed.token.is_none() => seed.token = Some(token),
                Some(_) => self.warnings.push(format!(
                    "QWEN_TOKEN entry {} is for the account of an earlier one and is left out",
                    index + 1
                )),
                None if has_cookies => self.warnings.push(format!(
                    "QWEN_TOKEN entry {} is left out: none of the cookies is known to be of its account",
                    index + 1
                )),
                None => {
                    owners.push(Some(token.clone()));
                    seeds.push(IdentitySeed { cookie: None, token: Some(token), spares: Vec::new() });
                }
            }
        }
        seeds
    }
}

/// A token that a browser's cookie carries, which says whose cookie it is.
fn owner_of(cookie: &Cookie, now: UnixSeconds) -> Option<AccessToken> {
    let value_of = |name: &str| {
        cookie.expose().split(';').find_map(|pair| {
            let (found, value) = pair.split_once('=')?;
            (found.trim() == name).then_some(value)
        })
    };
    let tokens = ["token", "refresh_token"].map(|name| AccessToken::parse(value_of(name)?, now).ok());
    let mut tokens = tokens.into_iter().flatten();
    let first = tokens.next()?;
    // The older form does not always tell.
    if first.account().is_some() {
        Some(first)
    } else {
        Some(tokens.find(|it| it.account().is_some()).unwrap_or(first))
    }
}

fn is_same_account(a: &AccessToken, b: &AccessToken) -> bool {
    a.expose() == b.expose() || a.account().is_some_and(|account| b.account() == Some(account))
}

/// Removes what a copy from a web page or an editor brings along: control and invisible characters, odd spaces.
fn clean(text: &str) -> String {
    let cleaned: String = text
        .chars()
        .filter(|c| !c.is_control() && !matches!(c, '\u{feff}' | '\u{200b}'..='\u{200d}' | '\u{2060}'))
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .collect();
    cleaned.trim().to_owned()
}

const COOKIE_MEND: &str = "paste the whole Cookie request header of a logged-in chat.qwen.ai tab";
const KEY_BYTES_MAX: usize = 512;
