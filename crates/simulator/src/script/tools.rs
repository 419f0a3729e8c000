//! The tool calls that a scripted model writes, and the textual shapes in which models write them.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The tool calls that a completion of the web chat writes. They are the whole answer: `answer` and `pieces` of the
/// stream are ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ToolScript {
    /// The calls, in the order in which they are written.
    pub calls: Vec<ModelCall>,
    /// Textual shape of the calls. Left out: [`CallShape::Documented`].
    pub shape: CallShape,
    /// Text before the first call.
    pub before: String,
    /// Text after the last call.
    pub after: String,
    /// Characters in each piece of the text, at least 1. Left out: pieces of 1 to 12 characters. The bytes of the
    /// stream are cut by its `packets`.
    pub piece_chars: Option<usize>,
}

/// One call that a model writes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCall {
    /// The name of the tool; any text.
    pub name: String,
    /// Arguments by parameter name; written as JSON. Left out: no arguments.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Text written in place of the arguments' JSON, such as broken JSON.
    #[serde(default)]
    pub raw_arguments: Option<String>,
}

/// The textual shapes in which models write calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallShape {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`, one block for each.
    #[default]
    Documented,
    /// All of them as a list in one `<tool_call>` block, as Hermes models do.
    HermesList,
    /// `{"name": …, "arguments": …}` in a JSON code fence, one for each.
    Fenced,
    /// `{"tool_calls": [{"name": …, "arguments": …}, …]}`.
    BareToolCalls,
    /// `{"name": …, "arguments": …}` on a line for each.
    BareArguments,
    /// `{"tool": …, "parameters": …}` on a line for each.
    BareParameters,
    /// `{"function": {"name": …, "arguments": …}}` on a line for each.
    BareFunction,
    /// Tags with `=`: `<function=NAME><parameter=KEY>VALUE</parameter></function>`.
    FunctionTags,
    /// `<function_calls><invoke name="NAME"><parameter name="KEY">VALUE</parameter></invoke> … </function_calls>`.
    Invoke,
    /// Tags named as the tool and its arguments: `<NAME><KEY>VALUE</KEY></NAME>`.
    NameTag,
    /// `NAME(KEY=VALUE, …)` on a line for each.
    CallLine,
    /// No text: a delta of the upstream's own phase `local_tool`.
    LocalTool,
}

impl ToolScript {
    /// These calls in this shape.
    #[must_use]
    pub fn new(shape: CallShape, calls: impl IntoIterator<Item = ModelCall>) -> Self {
        Self { calls: calls.into_iter().collect(), shape, ..Self::default() }
    }

    /// The whole text, calls and what stands around them; with [`CallShape::LocalTool`] only the latter.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}{}", self.before, self.shape.written(&self.calls), self.after)
    }

    /// The text in its pieces.
    pub(crate) fn pieces(&self, chars: usize) -> Vec<String> {
        let text: Vec<char> = self.text().chars().collect();
        text.chunks(chars.max(1)).map(|piece| piece.iter().collect()).collect()
    }
}

impl ModelCall {
    /// A call with these arguments, of which only the members of an object count.
    #[must_use]
    pub fn new(name: &str, arguments: Value) -> Self {
        let arguments = if let Value::Object(arguments) = arguments { arguments } else { Map::new() };
        Self { name: name.to_owned(), arguments, raw_arguments: None }
    }

    /// A call whose arguments are written as this text.
    #[must_use]
    pub fn raw(name: &str, arguments: &str) -> Self {
        Self { name: name.to_owned(), arguments: Map::new(), raw_arguments: Some(arguments.to_owned()) }
    }

    fn json(&self) -> String {
        self.raw_arguments.clone().unwrap_or_else(|| Value::Object(self.arguments.clone()).to_string())
    }

    /// An object with the name and the arguments under these keys.
    fn object(&self, name: &str, arguments: &str) -> String {
        format!("{{\"{name}\": {}, \"{arguments}\": {}}}", Value::from(self.name.as_str()), self.json())
    }

    fn each(&self, write: impl Fn(&str, &Value) -> String) -> Vec<String> {
        self.arguments.iter().map(|(key, value)| write(key, value)).collect()
    }

    /// The call as the upstream tells of it in the phase `local_tool`.
    pub(crate) fn local(&self) -> Value {
        let raw = self.raw_arguments.as_deref();
        let params = raw.map(|raw| serde_json::from_str(raw).unwrap_or_else(|_| Value::from(raw)));
        json!({ "tool_name": self.name, "params": params.unwrap_or_else(|| Value::Object(self.arguments.clone())) })
    }
}

impl CallShape {
    /// These calls as text; empty for [`Self::LocalTool`].
    fn written(self, calls: &[ModelCall]) -> String {
        let lines = |write: &dyn Fn(&ModelCall) -> String| calls.iter().map(write).collect::<Vec<_>>().join("\n");
        let usual = |call: &ModelCall| call.object("name", "arguments");
        let list = || calls.iter().map(usual).collect::<Vec<_>>().join(", ");
        match self {
            Self::Documented => lines(&|call| format!("<tool_call>{}</tool_call>", usual(call))),
            Self::HermesList => format!("<tool_call>\n[{}]\n</tool_call>", list()),
            Self::Fenced => lines(&|call| format!("```json\n{}\n```", usual(call))),
            Self::BareToolCalls => format!("{{\"tool_calls\": [{}]}}", list()),
            Self::BareArguments => lines(&usual),
            Self::BareParameters => lines(&|call| call.object("tool", "parameters")),
            Self::BareFunction => lines(&|call| format!("{{\"function\": {}}}", usual(call))),
            Self::FunctionTags => lines(&|call| {
                let parameters = call.each(|key, value| format!("<parameter={key}>\n{}\n</parameter>\n", bare(value)));
                format!("<function={}>\n{}</function>", call.name, parameters.concat())
            }),
            Self::Invoke => {
                let invokes = lines(&|call| {
                    let parameters =
                        call.each(|key, value| format!("<parameter name=\"{key}\">{}</parameter>\n", bare(value)));
                    format!("<invoke name=\"{}\">\n{}</invoke>", call.name, parameters.concat())
                });
                format!("<function_calls>\n{invokes}\n</function_calls>")
            }
            Self::NameTag => lines(&|call| {
                let keys = call.each(|key, value| format!("<{key}>{}</{key}>\n", bare(value)));
                format!("<{name}>\n{}</{name}>", keys.concat(), name = call.name)
            }),
            Self::CallLine => lines(&|call| {
                let arguments = call.each(|key, value| format!("{key}={value}"));
                format!("{}({})", call.name, arguments.join(", "))
            }),
            Self::LocalTool => String::new(),
        }
    }
}

/// A string without quotes, anything else as JSON.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: CallShape, expected: &str) {
        let calls = [ModelCall::new("ls", json!({ "depth": 2, "path": "a \"b\"" })), ModelCall::new("pwd", json!({}))];
        assert_eq!(ToolScript::new(shape, calls).text(), expected, "{shape:?}");
    }

    #[test]
    fn every_shape_is_written() {
        let (ls, pwd) =
            (r#"{"name": "ls", "arguments": {"depth":2,"path":"a \"b\""}}"#, r#"{"name": "pwd", "arguments": {}}"#);
        check(CallShape::Documented, &format!("<tool_call>{ls}</tool_call>\n<tool_call>{pwd}</tool_call>"));
        check(CallShape::HermesList, &format!("<tool_call>\n[{ls}, {pwd}]\n</tool_call>"));
        check(CallShape::Fenced, &format!("```json\n{ls}\n```\n```json\n{pwd}\n```"));
        check(CallShape::BareToolCalls, &format!("{{\"tool_calls\": [{ls}, {pwd}]}}"));
        check(CallShape::BareArguments, &format!("{ls}\n{pwd}"));
        check(
            CallShape::BareParameters,
            "{\"tool\": \"ls\", \"parameters\": {\"depth\":2,\"path\":\"a \\\"b\\\"\"}}\n\
             {\"tool\": \"pwd\", \"parameters\": {}}",
        );
        check(CallShape::BareFunction, &format!("{{\"function\": {ls}}}\n{{\"function\": {pwd}}}"));
        check(
            CallShape::FunctionTags,
            "<function=ls>\n<parameter=depth>\n2\n</parameter>\n<parameter=path>\na \"b\"\n</parameter>\n</function>\n\
             <function=pwd>\n</function>",
        );
        check(
            CallShape::Invoke,
            "<function_calls>\n<invoke name=\"ls\">\n<parameter name=\"depth\">2</parameter>\n\
             <parameter name=\"path\">a \"b\"</parameter>\n</invoke>\n<invoke name=\"pwd\">\n</invoke>\n\
             </function_calls>",
        );
        check(CallShape::NameTag, "<ls>\n<depth>2</depth>\n<path>a \"b\"</path>\n</ls>\n<pwd>\n</pwd>");
        check(CallShape::CallLine, "ls(depth=2, path=\"a \\\"b\\\"\")\npwd()");
        check(CallShape::LocalTool, "");
    }

    #[test]
    fn text_stands_around_the_calls_and_arguments_may_be_broken() {
        let script = ToolScript {
            before: "I look. ".to_owned(),
            after: " Done.".to_owned(),
            ..ToolScript::new(CallShape::Documented, [ModelCall::raw("ls", "{\"path\": ")])
        };
        let expected = "I look. <tool_call>{\"name\": \"ls\", \"arguments\": {\"path\": }</tool_call> Done.";
        assert_eq!(script.text(), expected);
        for chars in [0, 1, 7, 1_000] {
            assert_eq!(script.pieces(chars).concat(), expected, "{chars}");
        }
        assert!(script.pieces(1).iter().all(|piece| piece.chars().count() == 1));
    }
}
