//! JSON as cookie extensions, test browsers and network recordings write it.

use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::pasted::given::{self, Given};
use crate::pasted::pairs::{self, Pair};
use crate::pasted::words::{Form, Mistake};

/// The first JSON value of a text, and how many bytes it takes.
pub(super) fn first(text: &str) -> Option<(Value, usize)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}

/// The credential of one account, and the form in which it was pasted.
pub(super) type Found = (Form, Result<Given, Mistake>);

/// The accounts in a JSON value:
/// - an array of objects with `name` and `value` (Cookie-Editor, `EditThisCookie`, Puppeteer), or an object that holds
///   such an array as `cookies` (Playwright, J2TEAM);
/// - an object of cookies by their names;
/// - an object with a header `cookie`, at the top or in `headers`, maybe below a title (Firefox);
/// - a network recording (HAR), of which the last request to the site with cookies counts, or one entry of it;
/// - the credentials of an OAuth account;
/// - an array of texts or of any of these.
pub(super) fn accounts(value: &Value) -> Vec<Found> {
    match value {
        Value::Array(items) if items.iter().any(|item| pair(item).is_some()) => {
            vec![cookies(Form::Json, pairs::header(items.iter().filter_map(pair).collect()))]
        }
        Value::Array(items) if !items.is_empty() => items.iter().flat_map(accounts).collect(),
        Value::Object(object) if is_oauth(object) => {
            vec![(Form::OAuth, Ok(Given::OAuth(SecretString::from(value.to_string()))))]
        }
        Value::Object(object) => match object.get("log").and_then(|log| log.get("entries")).and_then(Value::as_array) {
            Some(entries) => vec![cookies(Form::Recording, of_recording(entries))],
            None if object.contains_key("request") => {
                vec![cookies(Form::Recording, of_recording(std::slice::from_ref(value)))]
            }
            None => vec![cookies(Form::Json, of_object(object))],
        },
        Value::String(text) => match given::token(text) {
            Some(token) => vec![cookies(Form::Token, Ok(format!("token={token}")))],
            None => vec![cookies(Form::Json, Ok(text.clone()))],
        },
        _ => vec![(Form::Json, Err(Mistake::JsonWithoutCookies))],
    }
}

fn cookies(form: Form, header: Result<String, Mistake>) -> Found {
    (form, header.map(Given::Cookie))
}

/// Whether an object is the credentials of an OAuth account, and not cookies by their names.
fn is_oauth(object: &Map<String, Value>) -> bool {
    let is_text = |name: &str| object.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let has_sign =
        ["expiry_date", "expired", "token_type", "resource_url"].iter().any(|name| object.contains_key(*name));
    is_text("access_token") || (is_text("refresh_token") && has_sign)
}

/// The cookie of the last request to the site that carried one.
fn of_recording(entries: &[Value]) -> Result<String, Mistake> {
    let is_of_site = |entry: &&Value| {
        let url = entry.get("request").and_then(|request| request.get("url")).and_then(Value::as_str);
        let url = url.and_then(|url| url::Url::parse(url).ok());
        url.is_some_and(|url| url.host_str().is_some_and(pairs::is_of_site))
    };
    let mut of_site = entries.iter().rev().filter(is_of_site).peekable();
    if of_site.peek().is_none() {
        return Err(if entries.is_empty() { Mistake::RecordingWithoutCookies } else { Mistake::OtherSite });
    }
    of_site.find_map(of_request).ok_or(Mistake::RecordingWithoutCookies)
}

fn of_request(entry: &Value) -> Option<String> {
    let request = entry.get("request")?;
    of_headers(request.get("headers")?).or_else(|| {
        let cookies = request.get("cookies")?.as_array()?;
        pairs::header(cookies.iter().filter_map(pair).collect()).ok()
    })
}

fn of_object(object: &Map<String, Value>) -> Result<String, Mistake> {
    if let Some(header) = object.get("headers").and_then(of_headers).or_else(|| of_named(object)) {
        return Ok(header);
    }
    match object.get("cookies") {
        Some(Value::Array(items)) => return of_list(items),
        Some(Value::Object(inner)) => return of_object(inner),
        _ => {}
    }
    if let Some(pair) = pair_of(object) {
        return pairs::header(vec![pair]);
    }
    // Firefox copies the headers of a request below a title that names their size.
    if let Some(header) = object.values().find_map(|titled| titled.get("headers").and_then(of_headers)) {
        return Ok(header);
    }
    let by_name = object.iter().filter_map(|(name, value)| Some(Pair::new(name, value.as_str()?)));
    pairs::header(by_name.collect()).map_err(|_| Mistake::JsonWithoutCookies)
}

/// The header that the cookies of a list make together.
fn of_list(items: &[Value]) -> Result<String, Mistake> {
    let pairs: Vec<Pair> = items.iter().filter_map(pair).collect();
    if pairs.is_empty() { Err(Mistake::JsonWithoutCookies) } else { pairs::header(pairs) }
}

/// The header `cookie` of an object of headers, or of an array of `name` and `value`.
pub(super) fn of_headers(headers: &Value) -> Option<String> {
    match headers {
        Value::Object(object) => of_named(object),
        Value::Array(items) => {
            let pairs = items.iter().filter_map(pair);
            pairs.filter(|pair| pair.name.eq_ignore_ascii_case("cookie")).map(|pair| pair.value).next()
        }
        _ => None,
    }
}

fn of_named(object: &Map<String, Value>) -> Option<String> {
    let named = object.iter().find(|(name, _)| name.eq_ignore_ascii_case("cookie"));
    named.and_then(|(_, value)| value.as_str()).map(str::to_owned)
}

fn pair(item: &Value) -> Option<Pair> {
    pair_of(item.as_object()?)
}

fn pair_of(object: &Map<String, Value>) -> Option<Pair> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let pair = Pair::new(text("name")?, text("value")?);
    Some(Pair { domain: text("domain").or_else(|| text("host")).map(str::to_owned), ..pair })
}
