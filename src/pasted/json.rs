//! JSON as cookie extensions, test browsers and network recordings write it.

use serde_json::{Map, Value};

use crate::pasted::pairs::{self, Pair};

/// The first JSON value of a text, and how many bytes it takes.
pub(super) fn first(text: &str) -> Option<(Value, usize)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}

/// The `Cookie` headers in a JSON value, one for each account:
/// - an array of objects with `name` and `value` (Cookie-Editor, `EditThisCookie`, Puppeteer), or an object that holds
///   such an array as `cookies` (Playwright, J2TEAM);
/// - an object of cookies by their names;
/// - an object with a header `cookie`, at the top or in `headers`, maybe below a title (Firefox);
/// - a network recording (HAR), of which the last request to the site with cookies counts;
/// - an array of texts or of any of these.
///
/// # Errors
/// Says why there is none.
pub(super) fn headers(value: &Value) -> Vec<Result<String, &'static str>> {
    match value {
        Value::Array(items) if items.iter().any(|item| pair(item).is_some()) => {
            vec![pairs::header(items.iter().filter_map(pair).collect())]
        }
        Value::Array(items) if !items.is_empty() => items.iter().flat_map(headers).collect(),
        Value::Object(object) => vec![of_object(object)],
        Value::String(text) => vec![Ok(text.clone())],
        _ => vec![Err(NO_COOKIES)],
    }
}

fn of_object(object: &Map<String, Value>) -> Result<String, &'static str> {
    if let Some(entries) = object.get("log").and_then(|log| log.get("entries")).and_then(Value::as_array) {
        return entries.iter().rev().find_map(of_request).ok_or(NO_COOKIES);
    }
    if let Some(header) = object.get("headers").and_then(of_headers).or_else(|| of_named(object)) {
        return Ok(header);
    }
    if let Some(cookies) = object.get("cookies").filter(|cookies| cookies.is_array() || cookies.is_object()) {
        return headers(cookies).into_iter().next().unwrap_or(Err(NO_COOKIES));
    }
    if let Some(pair) = pair_of(object) {
        return pairs::header(vec![pair]);
    }
    // Firefox copies the headers of a request below a title that names their size.
    if let Some(header) = object.values().find_map(|titled| titled.get("headers").and_then(of_headers)) {
        return Ok(header);
    }
    let by_name = object.iter().filter_map(|(name, value)| Some(Pair::new(name, value.as_str()?)));
    pairs::header(by_name.collect()).map_err(|_| NO_COOKIES)
}

/// The cookie of a request in a network recording, if it went to the site and carried one.
fn of_request(entry: &Value) -> Option<String> {
    let request = entry.get("request")?;
    let url = url::Url::parse(request.get("url")?.as_str()?).ok()?;
    if !pairs::is_of_site(url.host_str()?) {
        return None;
    }
    of_headers(request.get("headers")?).or_else(|| {
        let cookies = request.get("cookies")?.as_array()?;
        pairs::header(cookies.iter().filter_map(pair).collect()).ok()
    })
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

const NO_COOKIES: &str = "is JSON without cookies of chat.qwen.ai";
