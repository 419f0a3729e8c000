//! JSON Schemas that callers send, compiled under limits: no size, depth, pattern or maze of references makes
//! compiling or checking take long. References lead inside of the schema only.

use std::collections::HashMap;

use jsonschema::error::ValidationErrorKind as ErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// The most bytes of all schemas of a request, counted without white space and punctuation.
pub(crate) const SCHEMA_BYTES_MAX: usize = 512 * 1024;

/// The most levels of a schema.
pub(crate) const SCHEMA_DEPTH_MAX: usize = 100;

/// Steps of a search with backtracking, after which a pattern counts as matched.
const PATTERN_STEPS_MAX: usize = 100_000;
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Most steps of a check; arguments that may take more are not checked.
const STEPS_MAX: u64 = 200_000;

/// Most faults that one round of repairs looks at.
const FAULTS_SEEN_MAX: usize = 32;

/// Most faults in a sentence for the model.
const FAULTS_MAX: usize = 3;

/// Approximate length of a sentence for the model, in bytes.
const WHY_BYTES_MAX: usize = 500;

/// Part of the address of every JSON Schema draft.
const DRAFTS: &str = "json-schema.org/draft";

/// Keywords whose schemas apply to the same value as the schema that they stand in.
const IN_PLACE: [&str; 9] =
    ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"];
const REFERENCES: [&str; 2] = ["$ref", "$dynamicRef"];

/// Schemas that apply to one and the same value: in a row, and altogether.
const IN_PLACE_DEPTH_MAX: usize = 24;
const IN_PLACE_PATHS_MAX: usize = 4096;

/// Faults of a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaFault {
    /// With the schemas before it, it is larger than [`SCHEMA_BYTES_MAX`].
    #[error("are too large: all schemas together may have {SCHEMA_BYTES_MAX} bytes")]
    TooLarge,
    /// It has more than [`SCHEMA_DEPTH_MAX`] levels.
    #[error("are nested too deep: a schema may have {SCHEMA_DEPTH_MAX} levels")]
    TooDeep,
    /// A reference leads to another document, or nowhere.
    #[error("refer to '{0}', which is not in the schema")]
    Reference(String),
    /// References lead in a circle without a step into the arguments.
    #[error("refer to '{0}' in a circle")]
    Circle(String),
    /// It is not a JSON Schema.
    #[error("are not a JSON Schema: {0}")]
    NotASchema(String),
}

/// A JSON Schema compiled under the limits of this file.
pub(crate) struct Schema {
    validator: Validator,
    pub(crate) root: Value,
    /// Whether it has references; a check may then take more steps than schema and arguments have parts.
    has_references: bool,
}

/// The treatment of patterns that cannot be compiled, such as those of another dialect of regular expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadPatterns {
    /// They are left out: no reason to refuse a tool.
    Dropped,
    /// The schema is refused.
    Refused,
}

/// Compiles a schema; `None` for an empty one, to which everything conforms. `bytes_left` is what it may have of
/// [`SCHEMA_BYTES_MAX`], together with others of its request.
///
/// # Errors
/// [`SchemaFault`].
pub(crate) fn schema_of(
    parameters: &Map<String, Value>,
    bytes_left: &mut usize,
    patterns: BadPatterns,
) -> Result<Option<Schema>, SchemaFault> {
    if parameters.is_empty() {
        return Ok(None);
    }
    measure(parameters, bytes_left)?;
    let mut parameters = parameters.clone();
    // A dialect of one's own is read as the newest draft.
    if parameters.get("$schema").is_some_and(|dialect| !dialect.as_str().unwrap_or_default().contains(DRAFTS)) {
        parameters.shift_remove("$schema");
    }
    let root = Value::Object(parameters);
    let has_references = references(&root)?;
    let validator = match build(&root) {
        Ok(validator) => validator,
        Err(error) if patterns == BadPatterns::Refused => {
            return Err(SchemaFault::NotASchema(shortened(error.to_string())));
        }
        Err(error) => {
            let mut plain = root.clone();
            drop_patterns(&mut plain);
            build(&plain).map_err(|_| SchemaFault::NotASchema(shortened(error.to_string())))?
        }
    };
    Ok(Some(Schema { validator, root, has_references }))
}

impl Schema {
    /// Whether checking these arguments takes at most [`STEPS_MAX`] steps, references included.
    pub(crate) fn can_check(&self, arguments: &Value) -> bool {
        !self.has_references || Maze::new(&self.root).0.steps(&self.root, arguments) <= STEPS_MAX
    }

    /// Faults of arguments, at most [`FAULTS_SEEN_MAX`].
    pub(crate) fn faults<'a>(&'a self, arguments: &'a Value) -> Vec<ValidationError<'a>> {
        let is_fault = |error: &ValidationError<'_>| {
            // A pattern that takes too long is not the model's fault.
            let kind = error.kind();
            !matches!(kind, ErrorKind::BacktrackLimitExceeded { .. } | ErrorKind::RegexEngineFailure { .. })
        };
        self.validator.iter_errors(arguments).filter(is_fault).take(FAULTS_SEEN_MAX).collect()
    }

    /// The first faults of a value in a short sentence for the model; empty when it has none.
    pub(crate) fn why(&self, arguments: &Value) -> String {
        let faults = self.faults(arguments);
        let told = faults.iter().take(FAULTS_MAX).map(|fault| match fault.instance_path().as_str() {
            "" => fault.masked().to_string(),
            path => format!("at '{path}', {}", fault.masked()),
        });
        told.collect::<Vec<_>>().join("; ")
    }
}

fn build(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    let patterns = PatternOptions::fancy_regex()
        .backtrack_limit(PATTERN_STEPS_MAX)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX);
    // Formats are annotations in most programs, and of no agreed meaning.
    jsonschema::options().offline().should_validate_formats(false).with_pattern_options(patterns).build(schema)
}

/// Counts bytes and levels, without recursion.
fn measure(schema: &Map<String, Value>, bytes_left: &mut usize) -> Result<(), SchemaFault> {
    let mut spend = |bytes: usize| {
        *bytes_left = bytes_left.checked_sub(bytes).ok_or(SchemaFault::TooLarge)?;
        Ok(())
    };
    let mut open: Vec<(usize, &Value)> = Vec::new();
    for (key, value) in schema {
        spend(key.len())?;
        open.push((2, value));
    }
    while let Some((depth, value)) = open.pop() {
        if depth > SCHEMA_DEPTH_MAX {
            return Err(SchemaFault::TooDeep);
        }
        match value {
            Value::Object(entries) => {
                for (key, value) in entries {
                    spend(key.len() + 1)?;
                    open.push((depth + 1, value));
                }
            }
            Value::Array(items) => {
                spend(items.len())?;
                open.extend(items.iter().map(|item| (depth + 1, item)));
            }
            Value::String(text) => spend(text.len())?,
            Value::Null | Value::Bool(_) | Value::Number(_) => spend(1)?,
        }
    }
    Ok(())
}

/// Checks that references lead inside of the schema, not in a circle, and not into a maze. Returns `true` when there
/// are some.
fn references(root: &Value) -> Result<bool, SchemaFault> {
    let (mut maze, schemas) = Maze::new(root);
    schemas.iter().try_for_each(|schema| maze.walk(schema))?;
    Ok(schemas.iter().any(|schema| REFERENCES.iter().any(|key| schema.get(*key).is_some_and(Value::is_string))))
}

/// Takes the patterns out of a schema. A property named `pattern` has a schema as its value and stays.
fn drop_patterns(schema: &mut Value) {
    let mut open = vec![schema];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(entries) => {
                if entries.get("pattern").is_some_and(Value::is_string) {
                    entries.shift_remove("pattern");
                }
                open.extend(entries.values_mut());
            }
            Value::Array(items) => open.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// The schemas that apply to one value, followed without recursion.
struct Maze<'a> {
    root: &'a Value,
    anchors: HashMap<&'a str, &'a Value>,
    /// By address: `None` while it is being followed; else how deep it leads, and by how many paths.
    known: HashMap<*const Value, Option<(usize, usize)>>,
    /// By the addresses of a schema and a value: the most steps that checking one by the other takes.
    steps: HashMap<(*const Value, *const Value), u64>,
}

impl<'a> Maze<'a> {
    /// With all objects of the schema, most of which are schemas.
    fn new(root: &'a Value) -> (Self, Vec<&'a Value>) {
        let mut anchors = HashMap::new();
        let mut schemas = Vec::new();
        let mut open = vec![root];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(entries) => {
                    open.extend(entries.values());
                    schemas.push(value);
                    let names = ["$anchor", "$dynamicAnchor"].iter().filter_map(|key| entries.get(*key)?.as_str());
                    anchors.extend(names.map(|name| (name, value)));
                }
                Value::Array(items) => open.extend(items),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        (Self { root, anchors, known: HashMap::new(), steps: HashMap::new() }, schemas)
    }

    fn walk(&mut self, start: &'a Value) -> Result<(), SchemaFault> {
        let mut open = vec![(start, false)];
        while let Some((schema, is_followed)) = open.pop() {
            let next = self.next(schema)?;
            if is_followed {
                let reached =
                    next.iter().filter_map(|(_, schema)| self.known.get(&std::ptr::from_ref(*schema)).copied()?);
                let (depth, paths) = reached.fold((0, 1_usize), |(depth, paths), (deeper, more)| {
                    (depth.max(deeper + 1), paths.saturating_add(more))
                });
                if depth > IN_PLACE_DEPTH_MAX || paths > IN_PLACE_PATHS_MAX {
                    return Err(SchemaFault::TooDeep);
                }
                self.known.insert(std::ptr::from_ref(schema), Some((depth, paths)));
                continue;
            }
            if self.known.contains_key(&std::ptr::from_ref(schema)) {
                continue;
            }
            self.known.insert(std::ptr::from_ref(schema), None);
            open.push((schema, true));
            for (name, schema) in next {
                match self.known.get(&std::ptr::from_ref(schema)) {
                    Some(None) => return Err(SchemaFault::Circle(shortened(name.to_owned()))),
                    Some(Some(_)) => {}
                    None => open.push((schema, false)),
                }
            }
        }
        Ok(())
    }

    /// The schemas that apply to the same value, with the keyword or the reference that leads there.
    fn next(&self, schema: &'a Value) -> Result<Vec<(&'a str, &'a Value)>, SchemaFault> {
        let Value::Object(entries) = schema else {
            return Ok(Vec::new());
        };
        let mut next = Vec::new();
        for key in IN_PLACE {
            match entries.get_key_value(key) {
                Some((key, Value::Array(items))) => next.extend(items.iter().map(|item| (key.as_str(), item))),
                Some((key, Value::Object(schemas))) if key.starts_with("depend") => {
                    next.extend(schemas.values().map(|schema| (key.as_str(), schema)));
                }
                Some((key, value @ Value::Object(_))) => next.push((key.as_str(), value)),
                _ => {}
            }
        }
        for reference in REFERENCES.iter().filter_map(|key| entries.get(*key)?.as_str()) {
            next.push((reference, self.target(reference)?));
        }
        Ok(next)
    }

    /// The most steps that checking a value takes, counted as if every branch were tried.
    fn steps(&mut self, schema: &'a Value, value: &Value) -> u64 {
        let pair = (std::ptr::from_ref(schema), std::ptr::from_ref(value));
        if let Some(steps) = self.steps.get(&pair) {
            return *steps;
        }
        let mut steps = 1_u64;
        for (_, next) in self.next(schema).unwrap_or_default() {
            steps = steps.saturating_add(self.steps(next, value));
        }
        let mut each = |schema: Option<&'a Value>, value: &Value| {
            if let Some(schema) = schema.filter(|schema| schema.is_object()) {
                steps = steps.saturating_add(self.steps(schema, value));
            }
        };
        match value {
            Value::Object(entries) => {
                for (key, value) in entries {
                    each(schema.get("properties").and_then(|properties| properties.get(key)), value);
                    let patterns = schema.get("patternProperties").and_then(Value::as_object);
                    patterns.into_iter().flat_map(Map::values).for_each(|schema| each(Some(schema), value));
                    ["additionalProperties", "unevaluatedProperties"]
                        .iter()
                        .for_each(|key| each(schema.get(key), value));
                }
            }
            Value::Array(items) => {
                for (place, value) in items.iter().enumerate() {
                    for key in ["prefixItems", "items"] {
                        each(schema.get(key).and_then(|schemas| schemas.get(place)), value);
                    }
                    let keys = ["items", "additionalItems", "unevaluatedItems", "contains"];
                    keys.iter().for_each(|key| each(schema.get(key), value));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        self.steps.insert(pair, steps);
        steps
    }

    fn target(&self, reference: &str) -> Result<&'a Value, SchemaFault> {
        let target = reference.strip_prefix('#').and_then(|fragment| {
            let fragment = percent_decode_str(fragment).decode_utf8().ok()?;
            let is_pointer = fragment.is_empty() || fragment.starts_with('/');
            if is_pointer { self.root.pointer(&fragment) } else { self.anchors.get(&*fragment).copied() }
        });
        target.ok_or_else(|| SchemaFault::Reference(shortened(reference.to_owned())))
    }
}

/// Cuts a sentence that is too long.
pub(crate) fn shortened(mut why: String) -> String {
    if why.len() > WHY_BYTES_MAX {
        why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
        why.push('…');
    }
    why
}
