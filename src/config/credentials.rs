//! From `COOKIE`, `cookie.txt` and `QWEN_TOKEN` to identities, and from the key settings to a set of keys.

use std::collections::HashSet;
use std::fmt;

use crate::base::caller_key::{KeyLimits, KeyName, NamedKey, split_name};
use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::oauth::OAuthCredentials;
use crate::base::quotes::unquoted;
use crate::base::secret::{AccessToken, ApiKey, Cookie};
use crate::base::seed::IdentitySeed;
use crate::config::fault::{Fault, Origin};
use crate::config::values::Value;
use crate::pasted::{self, Given, Mistake, Pasted, SignIn, owner_of, shortened};

/// The credentials found so far, with faults and remarks about them.
#[derive(Default)]
pub(super) struct Credentials {
    cookies: Vec<Cookie>,
    /// The keys of `cookies`, to recognise a repeated one.
    known: HashSet<CredentialKey>,
    tokens: Vec<AccessToken>,
    keys: Vec<GivenKey>,
    /// Credentials of OAuth accounts that stood among the cookies.
    oauth: Vec<OAuthCredentials>,
    /// Source of the value that is being added; `None` for the cookie file, whose places name it.
    pub(super) origin: Option<Origin>,
    /// Entries that cannot be used.
    faults: Grouped,
    /// Remarks about entries that were left out.
    pub(super) warnings: Vec<String>,
    /// Cookies that are used although they do not sign in.
    doubts: Grouped,
    /// Remarks about entries in another form than a Cookie header, and how they were understood.
    pub(super) notes: Vec<String>,
}

/// One entry of a key setting.
struct GivenKey {
    /// `None` for a bare key.
    name: Option<KeyName>,
    key: ApiKey,
    place: Place,
    origin: Option<Origin>,
}

/// Lines of a file or entries of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// The file or the setting.
    name: String,
    /// Unit of the numbers: `line` or `entry`.
    unit: &'static str,
    /// First and last number, from 1.
    first: usize,
    last: usize,
}

impl Place {
    fn line(name: &str, first: usize, last: usize) -> Self {
        Self { name: name.to_owned(), unit: "line", first, last }
    }

    fn entry(name: &str, number: usize) -> Self {
        Self { name: name.to_owned(), unit: "entry", first: number, last: number }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_words(std::slice::from_ref(self)))
    }
}

/// Faults, each with all places in one file where it occurs.
#[derive(Default)]
struct Grouped(Vec<(Vec<Place>, Fault)>);

impl Grouped {
    fn add(&mut self, place: Place, origin: Option<Origin>, problem: String, mend: &str) {
        let same = self.0.iter_mut().find(|(places, fault)| {
            places.last().is_some_and(|last| (&last.name, last.unit) == (&place.name, place.unit))
                && (fault.origin, fault.problem.as_str(), fault.mend.as_str()) == (origin, problem.as_str(), mend)
        });
        match same {
            Some((places, _)) => places.push(place),
            None => self.0.push((vec![place], Fault { origin, ..Fault::at("", problem, mend) })),
        }
    }

    /// Each fault once, with all of its places.
    fn take(&mut self) -> impl Iterator<Item = Fault> + use<> {
        let all = std::mem::take(&mut self.0);
        all.into_iter().map(|(places, fault)| Fault { key: in_words(&places), ..fault })
    }
}

/// Places in one file: `cookie.txt line 3`, `cookie.txt lines 3, 5 to 9 and 12`.
fn in_words(places: &[Place]) -> String {
    let Some(one) = places.first() else { return String::new() };
    let range = |place: &Place| match (place.first, place.last) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first} to {last}"),
    };
    let is_single = places.len() == 1 && one.first == one.last;
    let unit = match (one.unit, is_single) {
        (unit, true) => unit,
        ("entry", false) => "entries",
        _ => "lines",
    };
    let mut ranges: Vec<String> = places.iter().take(PLACES_SHOWN_MAX).map(range).collect();
    if let Some(left) = places.len().checked_sub(PLACES_SHOWN_MAX).filter(|left| *left > 0) {
        ranges.push(format!("{left} more"));
    }
    let last = ranges.pop().unwrap_or_default();
    let joined = if ranges.is_empty() { last } else { format!("{} and {last}", ranges.join(", ")) };
    format!("{} {unit} {joined}", one.name)
}

impl Credentials {
    /// Takes the value of `COOKIE`, in any form that [`pasted`] reads. An array holds one account an element. A text is
    /// split at `|||`, else at line ends, else at a written-out `\n`. Entries that begin with `#` are dropped.
    pub(super) fn add_cookie_setting(&mut self, value: &Value, now: UnixSeconds) {
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
                    self.add_cookie_text(text, now);
                    return;
                }
            }
        };
        for (index, entry) in entries.iter().enumerate() {
            let place = Place::entry("COOKIE", index + 1);
            match <[Pasted; 1]>::try_from(pasted::read(entry)) {
                Ok([one]) if one.form.is_some() || one.given.is_err() => self.add_pasted(one, place, now),
                _ => {
                    // A comment may stand on a line of its own before a cookie of the same entry.
                    let lines: Vec<&str> = entry.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
                    self.add_cookie(unquoted(&lines.join("")), place, now);
                }
            }
        }
    }

    fn add_cookie_text(&mut self, text: &str, now: UnixSeconds) {
        let mut found = pasted::read(text);
        if !text.contains('\n') && found.iter().all(|one| one.form.is_none()) {
            found = pasted::read(&text.replace("\\n", "\n"));
        }
        for one in found {
            let place = Place { first: one.first_line, last: one.last_line, ..Place::entry("COOKIE", 1) };
            let is_one_account = one.given.is_ok();
            let place = if is_one_account { Place { last: place.first, ..place } } else { place };
            self.add_pasted(one, place, now);
        }
    }

    /// Takes the text of `cookie.txt`, or of what stands in for it, in any form that [`pasted`] reads: usually one
    /// header a line, `#` begins a comment line.
    pub(super) fn add_cookie_file(&mut self, name: &str, text: &str, now: UnixSeconds) {
        for one in pasted::read(text) {
            let place = Place::line(name, one.first_line, one.last_line);
            self.add_pasted(one, place, now);
        }
    }

    fn add_pasted(&mut self, one: Pasted, place: Place, now: UnixSeconds) {
        if let (Ok(_), Some(form)) = (&one.given, one.form) {
            self.notes.push(format!("{place}: read as {form}, one account"));
        }
        match one.given {
            Ok(Given::Cookie(header)) => self.add_cookie(&header, place, now),
            Ok(Given::OAuth(json)) => match OAuthCredentials::of_stored(&json, now) {
                Some(credentials) => self.oauth.push(credentials),
                None => self.add_fault(place, "has OAuth credentials that cannot be read", OAUTH_MEND),
            },
            Err(mistake @ (Mistake::ApiKey | Mistake::TooMany)) => {
                self.add_fault(place, mistake.to_string(), FEWER_MEND);
            }
            Err(mistake) => self.add_fault(place, mistake.to_string(), COOKIE_MEND),
        }
    }

    fn add_cookie(&mut self, text: &str, place: Place, now: UnixSeconds) {
        let cleaned = clean(text);
        if cleaned.is_empty() || cleaned.starts_with('#') {
            return;
        }
        let cut_off = |name: &str| format!("has a `{name}` whose value is cut off");
        let cookie = match Cookie::parse(&cleaned) {
            Ok(cookie) => cookie,
            Err(error) => {
                let problem = shortened(&cleaned).map_or_else(|| error.to_string(), cut_off);
                return self.add_fault(place, problem, COOKIE_MEND);
            }
        };
        let sign_in = SignIn::of(&cookie, now);
        // A cookie that only lacks its end still names its account, and may be the spare of a complete one.
        let tells_owner = owner_of(&cookie, now).is_some_and(|token| token.account().is_some());
        if let SignIn::CutOff(name) = sign_in
            && !tells_owner
        {
            return self.add_fault(place, cut_off(name), COOKIE_MEND);
        }
        if !self.known.insert(cookie.key()) {
            return self.warnings.push(format!("{place} repeats an earlier cookie and is left out"));
        }
        self.cookies.push(cookie);
        match sign_in {
            SignIn::Missing => {
                let doubt = "has neither the cookie `token` nor `refresh_token`, so it does not sign in";
                self.doubts.add(place, self.origin, doubt.to_owned(), COOKIE_MEND);
            }
            SignIn::Ended(_) => {
                let doubt = "has a token that has ended".to_owned();
                self.doubts.add(place, self.origin, doubt, "log in at chat.qwen.ai again and paste the new cookie");
            }
            SignIn::CutOff(name) => self.doubts.add(place, self.origin, cut_off(name), COOKIE_MEND),
            SignIn::Renewed | SignIn::Until(_) => {}
        }
    }

    /// Takes the parts of `QWEN_TOKEN`.
    pub(super) fn add_tokens(&mut self, parts: &[String], now: UnixSeconds) {
        for (index, part) in parts.iter().enumerate() {
            let place = Place::entry("QWEN_TOKEN", index + 1);
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

    /// Takes the parts of one of the key settings: `name=key`, or a key alone. A repeated key counts once, with the
    /// name that it has in one of the places.
    pub(super) fn add_keys(&mut self, setting: &str, parts: &[String]) {
        for (index, part) in parts.iter().enumerate() {
            let place = Place::entry(setting, index + 1);
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
                self.faults.add(given.place, given.origin, problem, "give each key a name of its own");
                continue;
            }
            let limits = limits.iter().find(|(limited, _)| *limited == name).map(|(_, limits)| limits.clone());
            let limits = limits.unwrap_or_default();
            named.push(NamedKey { name, key: given.key, limits, is_generated: false });
        }
        named
    }

    fn add_fault(&mut self, place: Place, problem: impl Into<String>, mend: &str) {
        self.faults.add(place, self.origin, problem.into(), mend);
    }

    /// The entries that cannot be used, each fault once.
    pub(super) fn take_faults(&mut self) -> Vec<Fault> {
        self.faults.take().collect()
    }

    /// The doubtful entries that are used, each doubt once.
    pub(super) fn take_doubts(&mut self) -> Vec<String> {
        self.doubts.take().map(|fault| fault.to_string()).collect()
    }

    /// The credentials of OAuth accounts that stood among the cookies.
    pub(super) fn take_oauth(&mut self) -> Vec<OAuthCredentials> {
        std::mem::take(&mut self.oauth)
    }

    /// Joins cookies and tokens of the same account: cookies in their order first, then the tokens if there are no
    /// cookies. A token that joins none of the cookies is left out: it might belong to one of their accounts without
    /// telling, and would be used twice.
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

fn is_same_account(a: &AccessToken, b: &AccessToken) -> bool {
    a.expose() == b.expose() || a.account().is_some_and(|account| b.account() == Some(account))
}

/// Removes characters that a copy from a web page or an editor adds: control and invisible characters, odd spaces.
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
const OAUTH_MEND: &str = "paste the whole file oauth_creds.json";
const FEWER_MEND: &str = "leave it out here";
/// Most places that one fault names.
const PLACES_SHOWN_MAX: usize = 8;
