//! The layers of a configuration, and which of them answers for a key.

use std::collections::BTreeMap;

use config::{File, FileFormat, Source as _, ValueKind};

use crate::base::quotes::bare;
use crate::config::dotenv;
use crate::config::fault::{Fault, Origin, unknown};
use crate::config::page;
use crate::config::values::Value;

/// The values of a configuration.
pub(super) struct Layers {
    /// The strongest first: flags, the owner's page, environment, `.env`, `config.json`.
    layers: Vec<(Origin, BTreeMap<String, Value>)>,
    /// Remarks about values that were left out.
    pub(super) warnings: Vec<String>,
}

impl Layers {
    /// Reads the layers. `known` are the names that `config.json` may hold.
    pub(super) fn read(
        flags: &BTreeMap<String, String>,
        page: Option<&str>,
        env: &BTreeMap<String, String>,
        dotenv: Option<&str>,
        file: Option<&str>,
        known: &[&str],
        faults: &mut Vec<Fault>,
    ) -> Self {
        let texts = |map: &BTreeMap<String, String>| -> BTreeMap<String, Value> {
            map.iter().map(|(name, text)| (name.clone(), Value::Text(bare(text).to_owned()))).collect()
        };
        let (foreign, env): (BTreeMap<_, _>, _) = env.clone().into_iter().partition(|(_, text)| is_service(text));
        let warnings = foreign.keys().map(|name| {
            format!(
                "{name} (environment) is the address of a service that Kubernetes or Docker announces, and is left out"
            )
        });
        let dotenv = dotenv.map(|text| dotenv::parse(text, faults));
        let file = file.map(|text| read_file(text, known, faults));
        Self {
            layers: vec![
                (Origin::Flag, texts(flags)),
                (Origin::Page, page.map(page::read).unwrap_or_default()),
                (Origin::Environment, texts(&env)),
                (Origin::DotEnv, dotenv.as_ref().map(texts).unwrap_or_default()),
                (Origin::File, file.unwrap_or_default()),
            ],
            warnings: warnings.collect(),
        }
    }

    /// The names that a layer holds.
    pub(super) fn names(&self, origin: Origin) -> impl Iterator<Item = &str> {
        let layers = self.layers.iter().filter(move |(its, _)| *its == origin);
        layers.flat_map(|(_, values)| values.keys().map(String::as_str))
    }

    /// The strongest value of a key. An empty text counts as not given, since compose files pass `${NAME:-}` on,
    /// except where it means something; on the owner's page it stands for the default, whatever the files say.
    pub(super) fn value(&self, name: &str, empty_counts: bool) -> Option<(Origin, &Value)> {
        self.layers.iter().find_map(|(origin, values)| {
            let value = values.get(name)?;
            (!value.is_empty() || empty_counts || *origin == Origin::Page).then_some((*origin, value))
        })
    }
}

/// Whether a value is what Kubernetes and links of Docker put into `<SERVICE>_PORT`: `tcp://10.96.0.7:8000`. A service
/// named `server` would otherwise set `SERVER_PORT`, and no setting of ours has such a value.
fn is_service(text: &str) -> bool {
    let text = bare(text).to_ascii_lowercase();
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
}

fn read_file(text: &str, known: &[&str], faults: &mut Vec<Fault>) -> BTreeMap<String, Value> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return BTreeMap::new();
    }
    let parsed = match File::from_str(text, FileFormat::Json5).collect() {
        Ok(parsed) => parsed,
        Err(error) => {
            // The parser's own words may quote the file, so only the place is taken from them: the first one, which
            // is the innermost (`expected comma at line 2 column 2 at line 1 column 1`).
            let said = error.to_string();
            let place = said.find("line ").and_then(|start| said.get(start..)).and_then(place_of);
            faults.push(Fault::at(
                "config.json",
                match place {
                    Some((line, column)) => {
                        format!("cannot be read as a JSON object at line {line}, column {column}")
                    }
                    None => "must be one JSON object".to_owned(),
                },
                "compare it with config.json.example (comments are allowed)",
            ));
            return BTreeMap::new();
        }
    };
    let mut values = BTreeMap::new();
    // The parser's map has no order.
    let parsed: BTreeMap<String, config::Value> = parsed.into_iter().collect();
    for (name, value) in parsed {
        if !known.contains(&name.as_str()) {
            faults.push(unknown(&name, known, Origin::File));
            continue;
        }
        match read_value(value.kind) {
            Ok(Some(value)) => {
                values.insert(name, value);
            }
            Ok(None) => {}
            Err(problem) => faults.push(Fault::of(name, Origin::File, problem, "compare it with config.json.example")),
        }
    }
    values
}

/// `line 3 column 7…` as two numbers.
fn place_of(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_whitespace();
    let line = words.nth(1)?.parse().ok()?;
    let column = words.nth(1)?.parse().ok()?;
    Some((line, column))
}

fn read_value(kind: ValueKind) -> Result<Option<Value>, String> {
    match kind {
        ValueKind::Nil => Ok(None),
        // Objects in a list are what cookie extensions export; their text is read by the setting that takes them.
        ValueKind::Array(items) if items.iter().any(|item| matches!(item.kind, ValueKind::Table(_))) => {
            let json = config::Value::from(items).try_deserialize::<serde_json::Value>();
            json.map(|json| Some(Value::Text(json.to_string()))).map_err(|_| "must be a list of texts".to_owned())
        }
        ValueKind::Array(items) => {
            let items: Option<Vec<String>> = items.into_iter().map(|item| scalar(item.kind)).collect();
            items.map(|items| Some(Value::List(items))).ok_or_else(|| "must be a list of texts".to_owned())
        }
        ValueKind::Table(table) => {
            let table: Option<BTreeMap<String, String>> =
                table.into_iter().map(|(name, item)| Some((name, scalar(item.kind)?))).collect();
            table.map(|table| Some(Value::Table(table))).ok_or_else(|| "must be an object of texts".to_owned())
        }
        kind => Ok(scalar(kind).map(Value::Text)),
    }
}

fn scalar(kind: ValueKind) -> Option<String> {
    match kind {
        ValueKind::Boolean(value) => Some(value.to_string()),
        ValueKind::I64(value) => Some(value.to_string()),
        ValueKind::I128(value) => Some(value.to_string()),
        ValueKind::U64(value) => Some(value.to_string()),
        ValueKind::U128(value) => Some(value.to_string()),
        ValueKind::Float(value) => Some(value.to_string()),
        ValueKind::String(value) => Some(value),
        ValueKind::Nil | ValueKind::Table(_) | ValueKind::Array(_) => None,
    }
}
