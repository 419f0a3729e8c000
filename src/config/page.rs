//! The values that the owner's page keeps in the state. They come before the environment and the files, and after the
//! options of the command line.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::config::fault::{Fault, Origin, unknown};
use crate::config::settings::{SETTINGS, Setting, names};
use crate::config::values::Value;

/// Reads the values that were kept. Those that the page may not change, as in the state of another version, are left
/// out, and so is a text that cannot be read.
pub(super) fn read(text: &str) -> BTreeMap<String, Value> {
    let kept: Map<String, Json> = serde_json::from_str(text).unwrap_or_default();
    let is_meant = |name: &str| find(name).is_some_and(Setting::is_for_the_page);
    kept.into_iter().filter(|(name, _)| is_meant(name)).filter_map(|(name, json)| Some((name, value(&json)?))).collect()
}

/// The values after a change of the owner, as a text to be kept: each name with its new value, or `null` to take the
/// page's value back. What cannot be changed here is left as it was and becomes a fault; the values themselves are checked
/// when they are loaded. `flags` are the settings that the command line gives.
pub(crate) fn changed(
    before: Option<&str>,
    change: &Map<String, Json>,
    flags: &BTreeMap<String, String>,
) -> (String, Vec<Fault>) {
    let mut kept: Map<String, Json> = before.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let mut faults = Vec::new();
    for (name, json) in change {
        match refusal(name, json, flags) {
            Some(fault) => faults.push(fault),
            None if json.is_null() => drop(kept.remove(name)),
            None => drop(kept.insert(name.clone(), json.clone())),
        }
    }
    (Json::Object(kept).to_string(), faults)
}

/// The values without those of these names, as a text to be kept.
pub(crate) fn without<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut kept: Map<String, Json> = serde_json::from_str(text).unwrap_or_default();
    names.for_each(|name| drop(kept.remove(name)));
    Json::Object(kept).to_string()
}

/// Why this cannot be changed on the page, whatever the value means.
fn refusal(name: &str, json: &Json, flags: &BTreeMap<String, String>) -> Option<Fault> {
    let Some(setting) = find(name) else {
        return Some(unknown(name, &names(), Origin::Page));
    };
    let of_file = "set it in .env or config.json";
    let (problem, mend) = if setting.is_secret {
        ("is a secret, which the page neither shows nor changes", of_file)
    } else if setting.needs_restart {
        ("is in use after a restart only, so the page does not change it", of_file)
    } else if !setting.is_for_the_page() {
        ("cannot be changed on the page", of_file)
    } else if flags.contains_key(name) && !json.is_null() {
        ("is given by an option of the command line, which comes first", "start the server without that option")
    } else if !json.is_null() && value(json).is_none() {
        ("must be a text, a number, true or false, or a list or an object of those", "send null to take a value back")
    } else {
        return None;
    };
    Some(Fault::of(name, Origin::Page, problem, mend))
}

fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// A value as `config.json` could have it.
fn value(json: &Json) -> Option<Value> {
    match json {
        Json::Array(items) => items.iter().map(scalar).collect::<Option<_>>().map(Value::List),
        Json::Object(items) => {
            let pair = |(name, item): (&String, &Json)| Some((name.clone(), scalar(item)?));
            items.iter().map(pair).collect::<Option<_>>().map(Value::Table)
        }
        one => scalar(one).map(Value::Text),
    }
}

fn scalar(json: &Json) -> Option<String> {
    match json {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(is) => Some(is.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}
