//! Repairs of arguments that are wrong in form only, as long as nothing is lost: a key that differs in case or
//! separators, a number or a truth value written as a string, a single value where a list is wanted, JSON inside of a
//! string, a text alone for the one argument, `null` for an argument that may be left out.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as ErrorKind};
use jsonschema::types::JsonType;
use serde_json::{Map, Number, Value};

use crate::chat::tools::names::fold;
use crate::chat::tools::schema::Schema;

/// Rounds of repairs: one may uncover the need of the next.
const REPAIR_ROUNDS_MAX: usize = 8;

/// A repair of arguments.
enum Mend {
    /// Another value at this pointer.
    Replace(String, Value),
    /// Nothing at this pointer, in place of `null`.
    Remove(String),
    /// Another key in the object at this pointer.
    Rename { at: String, from: String, to: String },
}

impl Schema {
    /// Gives keys of the outermost object that are not declared the declared spelling, even where the schema lets them
    /// pass. `None` when there is nothing to do.
    pub(crate) fn renamed(&self, arguments: &Map<String, Value>) -> Option<Map<String, Value>> {
        let properties = self.root.get("properties")?.as_object()?;
        let takes_others = self.root.get("patternProperties").is_some()
            || self.root.get("additionalProperties").is_some_and(|others| *others != Value::Bool(false));
        if takes_others || arguments.keys().all(|key| properties.contains_key(key)) {
            return None;
        }
        let mut renamed = arguments.clone();
        for key in arguments.keys().filter(|key| !properties.contains_key(*key)) {
            if let Some(declared) = declared_key(key, properties, arguments)
                && let Some(value) = renamed.shift_remove(key)
            {
                renamed.insert(declared.clone(), value);
            }
        }
        (renamed != *arguments).then_some(renamed)
    }

    /// The name of the one argument, of a tool that takes a text and nothing else.
    pub(crate) fn only_text(&self) -> Option<&str> {
        let mut properties = self.root.get("properties")?.as_object()?.iter();
        let (name, schema) = properties.next().filter(|_| properties.next().is_none())?;
        let is_required = self.root.get("required")?.as_array()?.iter().any(|required| required == name.as_str());
        (is_required && schema.get("type")? == "string").then_some(name)
    }

    /// Repairs what can be repaired without a loss. `None`: that is not enough.
    pub(crate) fn mended(&self, mut arguments: Value) -> Option<Value> {
        for _ in 0..REPAIR_ROUNDS_MAX {
            let faults = self.faults(&arguments);
            if faults.is_empty() {
                return Some(arguments);
            }
            let mends: Vec<Mend> = faults.iter().filter_map(|fault| self.mends(fault)).flatten().collect();
            drop(faults);
            if mends.is_empty() {
                return None;
            }
            for mend in mends {
                mend.apply(&mut arguments);
            }
        }
        self.faults(&arguments).is_empty().then_some(arguments)
    }

    /// The repairs of one fault.
    fn mends(&self, fault: &ValidationError<'_>) -> Option<Vec<Mend>> {
        let at = fault.instance_path().as_str();
        let instance: &Value = fault.instance();
        match fault.kind() {
            // For an optional argument `null` means the same as its absence; for a required one the next round finds it missing.
            ErrorKind::Type { .. } if instance.is_null() => Some(vec![Mend::Remove(at.to_owned())]),
            ErrorKind::Type { kind } => {
                let value = match kind {
                    TypeKind::Single(wanted) => converted(instance, *wanted),
                    TypeKind::Multiple(wanted) => wanted.iter().find_map(|wanted| converted(instance, wanted)),
                };
                Some(vec![Mend::Replace(at.to_owned(), value?)])
            }
            ErrorKind::AnyOf { context } | ErrorKind::OneOfNotValid { context } => context.iter().find_map(|branch| {
                let mends: Option<Vec<Vec<Mend>>> = branch.iter().map(|fault| self.mends(fault)).collect();
                mends.map(|mends| mends.into_iter().flatten().collect()).filter(|mends: &Vec<Mend>| !mends.is_empty())
            }),
            ErrorKind::Required { property } => {
                let (instance, missing) = (instance.as_object()?, property.as_str()?);
                let declared = self.properties_beside(fault);
                let mut keys = instance.keys().filter(|key| {
                    key_fold(key) == key_fold(missing) && !declared.is_some_and(|declared| declared.contains_key(*key))
                });
                let from = keys.next().filter(|_| keys.next().is_none())?;
                Some(vec![Mend::Rename { at: at.to_owned(), from: from.clone(), to: missing.to_owned() }])
            }
            ErrorKind::AdditionalProperties { unexpected } => {
                let (declared, instance) = (self.properties_beside(fault)?, instance.as_object()?);
                let rename = |from: &String| {
                    let to = declared_key(from, declared, instance)?.clone();
                    Some(Mend::Rename { at: at.to_owned(), from: from.clone(), to })
                };
                unexpected.iter().map(rename).collect()
            }
            _ => None,
        }
    }

    /// The properties that stand beside the keyword of a fault.
    fn properties_beside(&self, fault: &ValidationError<'_>) -> Option<&Map<String, Value>> {
        let (schema, _) = fault.schema_path().as_str().rsplit_once('/')?;
        self.root.pointer(&format!("{schema}/properties"))?.as_object()
    }
}

impl Mend {
    fn apply(self, arguments: &mut Value) {
        match self {
            Self::Replace(at, value) => {
                if let Some(place) = arguments.pointer_mut(&at) {
                    *place = value;
                }
            }
            Self::Remove(at) => {
                if let Some((object, key)) = at.rsplit_once('/')
                    && let Some(Value::Object(entries)) = arguments.pointer_mut(object)
                {
                    entries.shift_remove(&key.replace("~1", "/").replace("~0", "~"));
                }
            }
            Self::Rename { at, from, to } => {
                if let Some(Value::Object(entries)) = arguments.pointer_mut(&at)
                    && !entries.contains_key(&to)
                    && let Some(value) = entries.shift_remove(&from)
                {
                    entries.insert(to, value);
                }
            }
        }
    }
}

/// A key without the differences that are repaired: `filePath`, `file-path` and `file_path` are one.
fn key_fold(key: &str) -> String {
    fold(key).replace(['_', ' '], "")
}

/// The declared key that an undeclared one means: the only one that is alike, and is not there itself, of the only
/// undeclared key that is like it.
fn declared_key<'a>(key: &str, declared: &'a Map<String, Value>, instance: &Map<String, Value>) -> Option<&'a String> {
    let folded = key_fold(key);
    let mut alike = declared.keys().filter(|declared| key_fold(declared) == folded);
    let found = alike.next().filter(|found| alike.next().is_none() && !instance.contains_key(*found))?;
    let rivals = instance.keys().filter(|key| !declared.contains_key(*key) && key_fold(key) == folded).count();
    (rivals == 1).then_some(found)
}

/// The same value as another type, when nothing is lost.
fn converted(value: &Value, wanted: JsonType) -> Option<Value> {
    match (value, wanted) {
        (Value::String(text), JsonType::Number | JsonType::Integer) => {
            let number: Number = serde_json::from_str(text.trim()).ok()?;
            // A fraction of more digits than a double holds would lose some.
            (!number.is_f64() || text.trim().len() <= DOUBLE_DIGITS).then_some(Value::Number(number))
        }
        (Value::String(text), JsonType::Boolean) => match text.trim() {
            "true" | "True" => Some(Value::Bool(true)),
            "false" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        (Value::String(text), JsonType::Null) => matches!(text.trim(), "null" | "None").then_some(Value::Null),
        (Value::String(text), JsonType::Object) => serde_json::from_str(text).ok().filter(Value::is_object),
        (Value::String(text), JsonType::Array) => {
            let list = serde_json::from_str(text).ok().filter(Value::is_array);
            Some(list.unwrap_or_else(|| Value::Array(vec![value.clone()])))
        }
        (Value::Number(_) | Value::Bool(_) | Value::Object(_), JsonType::Array) => {
            Some(Value::Array(vec![value.clone()]))
        }
        (Value::Number(number), JsonType::String) if !number.is_f64() => Some(Value::String(number.to_string())),
        (Value::Bool(truth), JsonType::String) => Some(Value::String(truth.to_string())),
        _ => None,
    }
}

/// Decimal digits that a double holds for sure, with its point and a sign.
const DOUBLE_DIGITS: usize = 17;
