//! Checks calls against the tools that a caller declared.
//!
//! A [`ToolSet`] is compiled once for a distinct set of tools, under its [`ToolSetKey`], and checks any number of
//! calls. What is wrong in form only is repaired, as long as nothing is lost: a name or a key that differs in case or
//! separators, a number or a truth value written as a string, a single value where a list is wanted, JSON inside of a
//! string. References of schemas lead inside of the schema only.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jsonschema::error::{TypeKind, ValidationErrorKind as ErrorKind};
use jsonschema::types::JsonType;
use jsonschema::{PatternOptions, ValidationError, Validator};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use crate::chat::conversation::ToolSpec;
use crate::chat::tools::names::{ToolNames, fold};
use crate::chat::tools::shapes::WrittenCall;

/// The most bytes of all schemas of a request, counted without white space and punctuation.
pub const SCHEMA_BYTES_MAX: usize = 512 * 1024;

/// The most levels of a schema.
pub const SCHEMA_DEPTH_MAX: usize = 100;

/// Steps of a search with backtracking, after which a pattern counts as matched.
const PATTERN_STEPS_MAX: usize = 100_000;
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Rounds of repairs: one may uncover the need of the next.
const REPAIR_ROUNDS_MAX: usize = 8;

/// Levels of arguments.
const ARGUMENTS_DEPTH_MAX: usize = 64;
/// Steps of a check; arguments that may take more are not checked.
const STEPS_MAX: u64 = 200_000;

/// Faults that one round of repairs looks at.
const FAULTS_SEEN_MAX: usize = 32;
/// Faults that the model is told of.
const FAULTS_MAX: usize = 3;
/// Bytes of a sentence for the model, about.
const WHY_BYTES_MAX: usize = 500;
/// Names that the model is told of.
const NAMES_MAX: usize = 64;

/// Tells tool sets apart: equal for equal names and schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ToolSetKey([u8; 32]);

impl ToolSetKey {
    /// The key of these tools.
    #[must_use]
    pub fn of(tools: &[ToolSpec]) -> Self {
        let mut digest = Sha256::new();
        for tool in tools {
            digest.update(tool.name.len().to_le_bytes());
            digest.update(tool.name.as_bytes());
            // Writing a map of strings as JSON cannot fail.
            let schema = serde_json::to_vec(&tool.parameters).unwrap_or_default();
            digest.update(schema.len().to_le_bytes());
            digest.update(schema);
        }
        Self(digest.finalize().into())
    }
}

/// What is wrong with declared tools.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the parameters of the tool '{name}' {fault}")]
pub struct ToolSetError {
    /// The place of the tool in the request.
    pub place: usize,
    /// Its name.
    pub name: String,
    /// What is wrong with its parameters.
    pub fault: SchemaFault,
}

/// What is wrong with a schema.
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

/// Declared tools, ready to check calls.
pub struct ToolSet {
    key: ToolSetKey,
    names: Arc<ToolNames>,
    /// In the order of the names; `None` where any object is right.
    schemas: Vec<Option<Schema>>,
}

struct Schema {
    validator: Validator,
    root: Value,
    /// It has references, so that checking may take more steps than schema and arguments have parts.
    has_references: bool,
}

impl fmt::Debug for ToolSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolSet").field("names", &self.names.all()).finish_non_exhaustive()
    }
}

impl PartialEq for ToolSet {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for ToolSet {}

/// What a call turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// A call of a declared tool with arguments that follow its schema.
    Valid {
        /// The name as declared.
        name: String,
        /// A JSON object: byte for byte as the model wrote it, unless something was repaired.
        arguments: String,
    },
    /// Not to be repaired.
    Invalid {
        /// A short sentence for the model that names the fault.
        why: String,
    },
}

impl ToolSet {
    /// Compiles the schemas of these tools.
    ///
    /// # Errors
    /// [`ToolSetError`]: the first schema that cannot be used.
    pub fn compile(tools: &[ToolSpec]) -> Result<Self, ToolSetError> {
        let mut bytes_left = SCHEMA_BYTES_MAX;
        let compile = |(place, tool): (usize, &ToolSpec)| {
            let error = |fault| ToolSetError { place, name: tool.name.clone(), fault };
            schema_of(&tool.parameters, &mut bytes_left).map_err(error)
        };
        let schemas = tools.iter().enumerate().map(compile).collect::<Result<_, _>>()?;
        let names = ToolNames::new(tools.iter().map(|tool| tool.name.clone())).into();
        Ok(Self { key: ToolSetKey::of(tools), names, schemas })
    }

    /// What tells it apart from others.
    #[must_use]
    pub fn key(&self) -> ToolSetKey {
        self.key
    }

    /// The declared names.
    #[must_use]
    pub fn names(&self) -> &Arc<ToolNames> {
        &self.names
    }

    /// Checks a call, and repairs what is wrong in form only.
    #[must_use]
    pub fn check(&self, call: &WrittenCall) -> Checked {
        match self.checked(call) {
            Ok((name, arguments)) => Checked::Valid { name, arguments },
            Err(why) => Checked::Invalid { why: shortened(why) },
        }
    }

    fn checked(&self, call: &WrittenCall) -> Result<(String, String), String> {
        let declared = self.names.place(&call.name).and_then(|place| Some((place, self.names.all().get(place)?)));
        let Some((place, name)) = declared else {
            return Err(self.no_tool(&call.name));
        };
        let wrong = |why: String| format!("the arguments of '{name}' are wrong: {why}");
        let parse = |text: &str| {
            serde_json::from_str::<Value>(text).map_err(|error| wrong(format!("they are not valid JSON ({error})")))
        };
        let mut text = call.arguments.clone();
        let mut value = parse(&text)?;
        if let Value::String(inner) = value {
            text = if inner.trim().is_empty() { "{}".to_owned() } else { inner };
            value = parse(&text)?;
        }
        let Value::Object(arguments) = &value else {
            return Err(wrong("they have to be a JSON object".to_owned()));
        };
        if depth_of(&value) > ARGUMENTS_DEPTH_MAX {
            return Err(wrong(format!("they are nested deeper than {ARGUMENTS_DEPTH_MAX} levels")));
        }
        let Some(schema) = self.schemas.get(place).and_then(Option::as_ref).filter(|schema| schema.can_check(&value))
        else {
            return Ok((name.clone(), text));
        };
        let renamed = schema.renamed(arguments);
        if renamed.is_none() && schema.faults(&value).is_empty() {
            return Ok((name.clone(), text));
        }
        let mended = schema.mended(renamed.map_or_else(|| value.clone(), Value::Object));
        match mended.ok_or_else(|| schema.why(&value)) {
            Ok(mended) => Ok((name.clone(), mended.to_string())),
            Err(why) => Err(wrong(why)),
        }
    }

    fn no_tool(&self, name: &str) -> String {
        let names: Vec<&str> = self.names.all().iter().take(NAMES_MAX).map(String::as_str).collect();
        format!("there is no tool '{}'; the tools are {}", shortened(name.to_owned()), names.join(", "))
    }
}

/// Cuts a sentence that is too long.
fn shortened(mut why: String) -> String {
    if why.len() > WHY_BYTES_MAX {
        why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
        why.push('…');
    }
    why
}

fn schema_of(parameters: &Map<String, Value>, bytes_left: &mut usize) -> Result<Option<Schema>, SchemaFault> {
    if parameters.is_empty() {
        return Ok(None);
    }
    measure(parameters, bytes_left)?;
    let mut parameters = parameters.clone();
    // A dialect of one's own is read as the newest draft.
    if parameters.get("$schema").is_some_and(|dialect| !dialect.as_str().unwrap_or_default().contains(DRAFTS)) {
        parameters.remove("$schema");
    }
    let root = Value::Object(parameters);
    let has_references = references(&root)?;
    let validator = match build(&root) {
        Ok(validator) => validator,
        // Patterns of another dialect of regular expressions are no reason to refuse a tool.
        Err(error) => {
            let mut plain = root.clone();
            drop_patterns(&mut plain);
            build(&plain).map_err(|_| SchemaFault::NotASchema(shortened(error.to_string())))?
        }
    };
    Ok(Some(Schema { validator, root, has_references }))
}

/// In the address of every draft.
const DRAFTS: &str = "json-schema.org/draft";

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

/// The levels of a value, without recursion.
fn depth_of(value: &Value) -> usize {
    let (mut deepest, mut open) = (0, vec![(1, value)]);
    while let Some((depth, value)) = open.pop() {
        deepest = deepest.max(depth);
        match value {
            Value::Object(entries) => open.extend(entries.values().map(|value| (depth + 1, value))),
            Value::Array(items) => open.extend(items.iter().map(|value| (depth + 1, value))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    deepest
}

/// Keywords whose schemas apply to the same value as the schema that they stand in.
const IN_PLACE: [&str; 9] =
    ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"];
const REFERENCES: [&str; 2] = ["$ref", "$dynamicRef"];

/// Schemas that apply to one and the same value: in a row, and altogether.
const IN_PLACE_DEPTH_MAX: usize = 24;
const IN_PLACE_PATHS_MAX: usize = 4096;

/// Checks that references lead inside of the schema, not in a circle, and not into a maze. Returns `true` when there
/// are some.
fn references(root: &Value) -> Result<bool, SchemaFault> {
    let (mut maze, schemas) = Maze::new(root);
    schemas.iter().try_for_each(|schema| maze.walk(schema))?;
    Ok(schemas.iter().any(|schema| REFERENCES.iter().any(|key| schema.get(*key).is_some_and(Value::is_string))))
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

/// Takes the patterns out of a schema. A property named `pattern` has a schema as its value and stays.
fn drop_patterns(schema: &mut Value) {
    let mut open = vec![schema];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(entries) => {
                if entries.get("pattern").is_some_and(Value::is_string) {
                    entries.remove("pattern");
                }
                open.extend(entries.values_mut());
            }
            Value::Array(items) => open.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

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
    /// Whether checking these arguments ends soon, however the schema's references multiply.
    fn can_check(&self, arguments: &Value) -> bool {
        !self.has_references || Maze::new(&self.root).0.steps(&self.root, arguments) <= STEPS_MAX
    }

    /// What is wrong with arguments, at most so many faults that it stays readable.
    fn faults<'a>(&'a self, arguments: &'a Value) -> Vec<ValidationError<'a>> {
        let is_fault = |error: &ValidationError<'_>| {
            // A pattern that takes too long is not the model's fault.
            let kind = error.kind();
            !matches!(kind, ErrorKind::BacktrackLimitExceeded { .. } | ErrorKind::RegexEngineFailure { .. })
        };
        self.validator.iter_errors(arguments).filter(is_fault).take(FAULTS_SEEN_MAX).collect()
    }

    fn why(&self, arguments: &Value) -> String {
        let faults = self.faults(arguments);
        let told = faults.iter().take(FAULTS_MAX).map(|fault| match fault.instance_path().as_str() {
            "" => fault.masked().to_string(),
            path => format!("at '{path}', {}", fault.masked()),
        });
        told.collect::<Vec<_>>().join("; ")
    }

    /// Gives keys of the outermost object that are not declared the declared spelling, even where the schema lets them
    /// pass. `None` when there is nothing to do.
    fn renamed(&self, arguments: &Map<String, Value>) -> Option<Map<String, Value>> {
        let properties = self.root.get("properties")?.as_object()?;
        let takes_others = self.root.get("patternProperties").is_some()
            || self.root.get("additionalProperties").is_some_and(|others| *others != Value::Bool(false));
        if takes_others || arguments.keys().all(|key| properties.contains_key(key)) {
            return None;
        }
        let mut renamed = arguments.clone();
        for key in arguments.keys().filter(|key| !properties.contains_key(*key)) {
            if let Some(declared) = declared_key(key, properties, arguments)
                && let Some(value) = renamed.remove(key)
            {
                renamed.insert(declared.clone(), value);
            }
        }
        (renamed != *arguments).then_some(renamed)
    }

    /// Repairs what can be repaired without a loss. `None`: that is not enough.
    fn mended(&self, mut arguments: Value) -> Option<Value> {
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
            // For an optional argument `null` is as good as nothing; for a required one the next round finds it missing.
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
                    entries.remove(&key.replace("~1", "/").replace("~0", "~"));
                }
            }
            Self::Rename { at, from, to } => {
                if let Some(Value::Object(entries)) = arguments.pointer_mut(&at)
                    && !entries.contains_key(&to)
                    && let Some(value) = entries.remove(&from)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool(name: &str, parameters: Value) -> ToolSpec {
        let Value::Object(parameters) = parameters else { panic!("{parameters}") };
        ToolSpec { name: name.to_owned(), description: None, parameters, strict: None }
    }

    fn set() -> ToolSet {
        let read = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": {
                "file_path": {"type": "string"},
                "limit": {"type": "integer", "minimum": 1},
                "ratio": {"type": "number"},
                "all": {"type": "boolean"},
                "paths": {"type": "array", "items": {"type": "string"}},
                "lines": {"type": "array", "items": {"type": "integer"}},
                "options": {"$ref": "#/definitions/Options"},
                "mode": {"enum": ["fast", "slow"]},
                "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "any": {},
            },
            "required": ["file_path"],
            "additionalProperties": false,
            "definitions": {"Options": {
                "type": "object",
                "properties": {"sort-by": {"type": "string"}, "next": {"$ref": "#/definitions/Options"}},
                "required": ["sort-by"],
            }},
        });
        let edit = json!({"type": "object", "properties": {"oldText": {"type": "string"}, "old_text": {"type": "string"}, "n": {}}});
        ToolSet::compile(&[tool("read_file", read), tool("now", json!({})), tool("edit", edit)]).unwrap()
    }

    fn checked(name: &str, arguments: &str) -> String {
        match set().check(&WrittenCall { name: name.to_owned(), arguments: arguments.to_owned() }) {
            Checked::Valid { name, arguments } => format!("{name}{arguments}"),
            Checked::Invalid { why } => format!("! {why}"),
        }
    }

    fn check(name: &str, arguments: &str, expected: &str) {
        assert_eq!(checked(name, arguments), expected, "{name}{arguments}");
    }

    #[test]
    fn right_calls_stay_as_they_are() {
        check("now", "{}", "now{}");
        check("now", "{\"b\": 1e3,\n \"a\": \"\\u4f60 \\/\"}", "now{\"b\": 1e3,\n \"a\": \"\\u4f60 \\/\"}");
        check("read_file", "{\"limit\": 3, \"file_path\" : \"a\"}", "read_file{\"limit\": 3, \"file_path\" : \"a\"}");
    }

    #[test]
    fn repairs() {
        let read = |arguments: &str, expected: &str| check("read_file", arguments, &format!("read_file{expected}"));
        check("Read-File", r#"{"file_path":"a"}"#, r#"read_file{"file_path":"a"}"#);
        read(r#"{"file_path":"a","limit":"3"}"#, r#"{"file_path":"a","limit":3}"#);
        read(r#"{"file_path":"a","ratio":" 0.5 "}"#, r#"{"file_path":"a","ratio":0.5}"#);
        read(r#"{"file_path":"a","all":"true"}"#, r#"{"all":true,"file_path":"a"}"#);
        read(r#"{"file_path":"a","paths":"b"}"#, r#"{"file_path":"a","paths":["b"]}"#);
        read(r#"{"file_path":"a","paths":"[\"b\", \"c\"]"}"#, r#"{"file_path":"a","paths":["b","c"]}"#);
        read(r#"{"file_path":"a","lines":"7"}"#, r#"{"file_path":"a","lines":[7]}"#);
        read(r#"{"file_path":"a","options":"{\"sort-by\": \"x\"}"}"#, r#"{"file_path":"a","options":{"sort-by":"x"}}"#);
        read(r#"{"file_path":"a","options":{"sort_by":"x"}}"#, r#"{"file_path":"a","options":{"sort-by":"x"}}"#);
        read(
            r#"{"file_path":"a","options":{"sort-by":"x","next":{"sortBy":"y"}}}"#,
            r#"{"file_path":"a","options":{"next":{"sort-by":"y"},"sort-by":"x"}}"#,
        );
        read(r#"{"file_path":"a","either":"3"}"#, r#"{"either":3,"file_path":"a"}"#);
        read(r#"{"file_path":"a","either":"null"}"#, r#"{"either":null,"file_path":"a"}"#);
        read(r#"{"filePath":"a","Limit":2}"#, r#"{"file_path":"a","limit":2}"#);
        read(r#"{"file_path":7}"#, r#"{"file_path":"7"}"#);
        read(r#""{\"file_path\": \"a\"}""#, r#"{"file_path": "a"}"#);
        read(
            r#"{"file_path":"a","limit":null,"options":{"sort-by":"b","next":null}}"#,
            r#"{"file_path":"a","options":{"sort-by":"b"}}"#,
        );
        check("now", r#""""#, "now{}");
        check("edit", r#"{"N": 1}"#, r#"edit{"n":1}"#);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |why: &str| format!("! the arguments of 'read_file' are wrong: {why}");
        check("gone", "{}", "! there is no tool 'gone'; the tools are read_file, now, edit");
        check("read_file", "{}", &wrong("\"file_path\" is a required property"));
        check("read_file", "[]", &wrong("they have to be a JSON object"));
        check("read_file", r#""a.rs""#, &wrong("they are not valid JSON (expected value at line 1 column 1)"));
        check(
            "read_file",
            r#"{"file_path":"a","limit":"three"}"#,
            &wrong("at '/limit', value is not of type \"integer\""),
        );
        check(
            "read_file",
            r#"{"file_path":"a","limit":0}"#,
            &wrong("at '/limit', value is less than the minimum of 1"),
        );
        check(
            "read_file",
            r#"{"file_path":"a","mode":"medium"}"#,
            &wrong("at '/mode', value is not one of \"fast\" or \"slow\""),
        );
        check(
            "read_file",
            r#"{"file_path":"a","other":1}"#,
            &wrong("Additional properties are not allowed ('other' was unexpected)"),
        );
        check("read_file", r#"{"file_path":null}"#, &wrong("at '/file_path', value is not of type \"string\""));
        check("read_file", r#"{"file_path":["a"]}"#, &wrong("at '/file_path', value is not of type \"string\""));
        check(
            "read_file",
            r#"{"filePath":"a","FILE_PATH":"b"}"#,
            &checked("read_file", r#"{"FILE_PATH":"b","filePath":"a"}"#),
        );
        assert!(checked("read_file", r#"{"filePath":"a","FILE_PATH":"b"}"#).starts_with('!'));
        assert!(checked("read_file", &"[".repeat(10_000)).starts_with('!'));
        assert!(checked("read_file", &"{\"a\":".repeat(10_000)).len() < 600);
        check("edit", r#"{"Old_Text": "x"}"#, r#"edit{"Old_Text": "x"}"#);
    }

    fn fault(schema: Value) -> Option<SchemaFault> {
        ToolSet::compile(&[tool("ok", json!({})), tool("x", schema)]).err().map(|error| {
            assert_eq!((error.place, error.name.as_str()), (1, "x"));
            error.fault
        })
    }

    fn nested(levels: usize) -> Value {
        let around = |inner, _| Value::Object(Map::from_iter([("items".to_owned(), inner)]));
        (0..levels).fold(json!({"type": "string"}), around)
    }

    #[test]
    fn schemas_that_cannot_be_used() {
        let reference = |to: &str| Some(SchemaFault::Reference(to.to_owned()));
        assert!(matches!(fault(json!({"type": "strin"})), Some(SchemaFault::NotASchema(_))));
        assert!(matches!(fault(json!({"properties": []})), Some(SchemaFault::NotASchema(_))));
        assert_eq!(fault(json!({"$ref": "https://example.com/a.json"})), reference("https://example.com/a.json"));
        assert_eq!(fault(json!({"$ref": "file:///etc/passwd"})), reference("file:///etc/passwd"));
        assert_eq!(fault(json!({"$ref": "#/$defs/none"})), reference("#/$defs/none"));
        assert!(matches!(fault(json!({"$ref": "#"})), Some(SchemaFault::Circle(_))));
        let circle = json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}});
        assert!(matches!(fault(circle), Some(SchemaFault::Circle(_))));
        // Dropping such a value takes more stack than a test's thread has.
        let deep = std::thread::Builder::new().stack_size(64 << 20).spawn(|| fault(nested(10_000))).unwrap();
        assert_eq!(deep.join().unwrap(), Some(SchemaFault::TooDeep));
        let maze: Map<String, Value> = (0..30)
            .map(|level| {
                (format!("a{level}"), json!({"anyOf": vec![json!({"$ref": format!("#/$defs/a{}", level + 1)}); 3]}))
            })
            .chain([("a30".to_owned(), json!({"type": "string"}))])
            .collect();
        assert_eq!(fault(json!({"$defs": maze})), Some(SchemaFault::TooDeep));
        assert_eq!(fault(json!({"description": "x".repeat(1_000_000)})), Some(SchemaFault::TooLarge));
        assert!(matches!(fault(json!({"pattern": "(a{1000}){1000}"})), None | Some(SchemaFault::NotASchema(_))));
    }

    #[test]
    fn schemas_as_programs_send_them() {
        for schema in [
            json!({"type": "object"}),
            json!({"type": "object", "properties": {}, "$schema": "https://json-schema.org/draft/2020-12/schema"}),
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {"a": {"type": ["string", "null"]}}}),
            json!({"properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}, "url": {"format": "uri"}}}),
            json!({"properties": {"a": {"pattern": "^(?=x)[\\p{L}]+$"}, "b": {"pattern": "(?<!a"}, "c": {"format": "unheard-of"}}}),
            json!({"properties": {"tree": {"$ref": "#/$defs/tree"}}, "$defs": {"tree": {"properties": {"down": {"$ref": "#/$defs/tree"}}}}}),
            json!({"properties": {"down": {"$ref": "#"}}}),
            json!({"$schema": "https://example.com/schema", "type": "object"}),
            json!({"$defs": {"a": {"$anchor": "here", "type": "object"}}, "$ref": "#here"}),
            nested(90),
        ] {
            assert_eq!(fault(schema.clone()), None, "{schema}");
        }
    }

    #[test]
    fn long_searches_of_patterns_end() {
        let text = "a".repeat(5_000);
        for pattern in ["^(a+)+$", "^(a+)+(?=b)$", "^(a|aa)+(?!a)b$", "^(a*)*\\1b$", "(a?){400}b(?=c)"] {
            let schema = json!({"properties": {"a": {"pattern": pattern}}});
            let set = ToolSet::compile(&[tool("x", schema)]).unwrap();
            let arguments = json!({"a": text}).to_string();
            let checked = set.check(&WrittenCall { name: "x".to_owned(), arguments });
            if let Checked::Invalid { why } = checked {
                assert!(why.contains("does not match"), "{why}");
            }
        }
    }

    #[test]
    fn arguments_that_would_take_forever_pass_unchecked() {
        let branch = json!({"properties": {"a": {"$ref": "#"}, "n": {"type": "integer"}}});
        let set = ToolSet::compile(&[tool("x", json!({"anyOf": vec![branch; 8]}))]).unwrap();
        let check = |depth: usize| {
            let arguments = format!("{}{{\"n\":\"x\"}}{}", "{\"a\":".repeat(depth), "}".repeat(depth));
            set.check(&WrittenCall { name: "x".to_owned(), arguments })
        };
        assert!(matches!(check(3), Checked::Invalid { .. }));
        assert!(matches!(check(40), Checked::Valid { .. }));
        assert!(matches!(check(100), Checked::Invalid { why } if why.contains("levels")));
    }

    #[test]
    fn keys_tell_sets_apart() {
        let key = |name: &str, parameters: Value| ToolSetKey::of(&[tool(name, parameters)]);
        assert_eq!(key("a", json!({"b": 1, "c": 2})), key("a", json!({"c": 2, "b": 1})));
        assert_ne!(key("a", json!({})), key("b", json!({})));
        assert_ne!(key("a", json!({})), key("a", json!({"b": 1})));
        assert_eq!(set().key(), set().key());
    }
}
