//! Requests as real programs send them, with invented content: sizes, tools and fields are those of
//! `tests/fixtures/clients.json`, and each program finishes a task of two steps.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::support::app::{TestApp, json_of};

/// A program and what its first request has.
#[derive(Deserialize)]
struct Client {
    name: String,
    path: String,
    /// Bytes of its instructions.
    system_bytes: usize,
    /// Fields beside model, messages and tools.
    top: Map<String, Value>,
    tools: Vec<Tool>,
}

/// A tool, of so many bytes with its prose.
#[derive(Deserialize)]
struct Tool {
    /// `null` for tools that only OpenAI has.
    name: Option<String>,
    /// Left out: a function.
    #[serde(rename = "type")]
    kind: Option<String>,
    bytes: usize,
    parameters: Option<Value>,
}

/// A call that an answer makes.
#[derive(Debug, PartialEq)]
struct Call {
    id: String,
    name: String,
    arguments: Value,
}

const FOLDER: &str = "/home/ada/app";

/// So many bytes of prose.
fn prose(bytes: usize) -> String {
    const WORDS: &str = "Use it as the words around it say, and never in any other way than the one that they name. ";
    WORDS.chars().cycle().take(bytes).collect()
}

impl Client {
    fn is_of_responses(&self) -> bool {
        self.path.starts_with("/v1/responses")
    }

    fn is_of_messages(&self) -> bool {
        self.path.starts_with("/v1/messages")
    }

    fn tool(&self, tool: &Tool) -> Value {
        if let Some(kind) = &tool.kind {
            return json!({"type": kind, "name": tool.name, "description": prose(tool.bytes)});
        }
        let name = tool.name.as_deref().unwrap();
        let parameters = tool.parameters.clone().unwrap_or_else(|| json!({"type": "object", "properties": {}}));
        let description = prose(tool.bytes.saturating_sub(parameters.to_string().len() + 80));
        let function = json!({"name": name, "description": description, "parameters": parameters});
        if self.is_of_messages() {
            json!({"name": name, "description": description, "input_schema": parameters})
        } else if self.is_of_responses() {
            json!({"type": "function", "name": name, "description": description, "strict": false,
                   "parameters": parameters})
        } else {
            json!({"type": "function", "function": function})
        }
    }

    /// The request with these messages after the instructions.
    fn body(&self, turns: &[Value]) -> Value {
        let mut body = Value::Object(self.top.clone());
        body["model"] = json!("qwen3-max");
        body["tools"] = self.tools.iter().map(|tool| self.tool(tool)).collect();
        let system = format!("{}\nWorking directory: {FOLDER}\n", prose(self.system_bytes));
        let cached = |text: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
        let mut messages = Vec::new();
        if self.is_of_messages() {
            body["system"] = json!([cached("You are an agent."), cached(&system)]);
            messages.extend(turns.first().cloned());
            // A message of the system in the middle, as Claude Code sends it.
            messages.push(json!({"role": "system", "content": prose(1_000)}));
            messages.extend(turns.iter().skip(1).cloned());
            body["messages"] = messages.into();
            return body;
        }
        let part = |text: &str| json!([{"type": "input_text", "text": text}]);
        if self.is_of_responses() {
            messages.push(json!({"type": "message", "role": "developer", "content": part(&system)}));
            messages.push(json!({"type": "message", "role": "developer", "content": part("Be brief.")}));
            messages.extend(turns.iter().cloned());
            body["input"] = messages.into();
            return body;
        }
        if self.system_bytes > 0 {
            messages.push(json!({"role": "system", "content": system}));
        }
        messages.extend(turns.iter().cloned());
        body["messages"] = messages.into();
        body
    }

    fn user(&self, text: &str) -> Value {
        if self.is_of_responses() {
            return json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]});
        }
        json!({"role": "user", "content": [{"type": "text", "text": text}]})
    }

    /// The turns with which the program tells of a call and its result.
    fn told(&self, call: &Call, result: &str) -> Vec<Value> {
        let arguments = call.arguments.to_string();
        if self.is_of_responses() {
            return vec![
                json!({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}),
                json!({"type": "function_call_output", "call_id": call.id, "output": result}),
            ];
        }
        if self.is_of_messages() {
            let used = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments});
            let result = json!({"type": "tool_result", "tool_use_id": call.id, "content": result, "is_error": false});
            return vec![
                json!({"role": "assistant", "content": [used]}),
                json!({"role": "user", "content": [result, {"type": "text", "text": "Remember the plan."}]}),
            ];
        }
        let function = json!({"name": call.name, "arguments": arguments});
        vec![
            json!({"role": "assistant", "content": null,
                   "tool_calls": [{"id": call.id, "type": "function", "function": function}]}),
            json!({"role": "tool", "tool_call_id": call.id, "content": result}),
        ]
    }

    /// Asks, and gives the calls and the text of the answer.
    async fn ask(&self, app: &TestApp, turns: &[Value]) -> (Vec<Call>, String) {
        let response = app.post(&self.path, &self.body(turns)).send().await.unwrap();
        let name = &self.name;
        if self.top["stream"] == false {
            let answer = json_of(response).await;
            return read(std::slice::from_ref(&answer["choices"][0]["message"]), &self.path);
        }
        assert_eq!(response.status(), 200, "{name}: {}", response.text().await.unwrap());
        let stream = response.text().await.unwrap();
        let data = stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        let events: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
        read(&events, &self.path)
    }
}

/// The calls and the text that the events of a stream, or the message of a whole answer, add up to.
fn read(events: &[Value], path: &str) -> (Vec<Call>, String) {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    let mut said = String::new();
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for event in events {
        let delta = if event["choices"][0]["delta"].is_object() { &event["choices"][0]["delta"] } else { event };
        if path.starts_with("/v1/chat") {
            said.push_str(delta["content"].as_str().unwrap_or_default());
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                let function = &call["function"];
                if call["id"].is_string() {
                    calls.push((string(&call["id"]), string(&function["name"]), String::new()));
                }
                calls.last_mut().unwrap().2.push_str(function["arguments"].as_str().unwrap_or_default());
            }
        } else if path.starts_with("/v1/responses") {
            for item in event["response"]["output"].as_array().into_iter().flatten() {
                match item["type"].as_str().unwrap() {
                    "function_call" => {
                        calls.push((string(&item["call_id"]), string(&item["name"]), string(&item["arguments"])));
                    }
                    _ => said.push_str(item["content"][0]["text"].as_str().unwrap_or_default()),
                }
            }
        } else {
            let block = &event["content_block"];
            if block["type"] == "tool_use" {
                calls.push((string(&block["id"]), string(&block["name"]), String::new()));
            }
            said.push_str(event["delta"]["text"].as_str().unwrap_or_default());
            if let Some(json) = event["delta"]["partial_json"].as_str() {
                calls.last_mut().unwrap().2.push_str(json);
            }
        }
    }
    let call = |(id, name, arguments): (String, String, String)| Call {
        id,
        name,
        arguments: serde_json::from_str(&arguments).unwrap_or_else(|error| panic!("{error}: {arguments}")),
    };
    (calls.into_iter().map(call).collect(), said)
}

fn clients() -> Vec<Client> {
    serde_json::from_str(include_str!("../fixtures/clients.json")).unwrap()
}

#[tokio::test]
async fn every_client_finishes_a_task_of_two_steps() {
    for client in clients() {
        let name = &client.name;
        let (task, first, second) = match name.as_str() {
            "Open WebUI" => ("Search my notes, then view the first note.", "search_notes", "view_note"),
            "n8n" => ("Use the calculator, then look it up on wikipedia.", "calculator", "wikipedia"),
            "qwen-code" => ("List the files, then read README.md.", "list_directory", "read_file"),
            "opencode" => ("List the files, then read README.md.", "bash", "read"),
            "Cline" => ("List the files, then read README.md.", "run_commands", "read_files"),
            "Continue" => ("List the files, then read README.md.", "List", "Read"),
            "Codex" => ("List the files, then read README.md.", "exec_command", "exec_command"),
            "Claude Code" => ("List the files, then read README.md.", "Bash", "Read"),
            other => panic!("{other} has no task"),
        };
        let app = TestApp::quick().await;
        let mut turns = vec![client.user(task)];
        let results = ["README.md\nnotes.txt\n", "# App\nThe word is tangerine.\n"];
        for (step, (tool, result)) in [first, second].into_iter().zip(results).enumerate() {
            let (calls, said) = client.ask(&app, &turns).await;
            assert_eq!(calls.iter().map(|call| call.name.as_str()).collect::<Vec<_>>(), [tool], "{name}: {said}");
            assert_eq!(said, "", "{name}");
            if step == 1 && client.system_bytes > 1_000 {
                let arguments = calls[0].arguments.to_string();
                assert!(arguments.contains("README.md"), "{name}: {arguments}");
            }
            turns.extend(client.told(&calls[0], result));
        }
        let (calls, said) = client.ask(&app, &turns).await;
        assert!(calls.is_empty() && said.contains("The word is tangerine."), "{name}: {calls:?} {said}");
        app.assert_clean();
    }
}

#[tokio::test]
async fn the_largest_prompts_keep_room_for_the_conversation() {
    for client in clients() {
        let app = TestApp::quick().await;
        let turns = [client.user("echo: done")];
        let response = app.post(&client.path, &client.body(&turns)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", client.name);
        assert!(response.headers().get("x-bridge-prompt-file").is_none(), "{}: it goes as a file", client.name);
        let prompt = app.asked().prompt().to_owned();
        for tool in client.tools.iter().filter(|tool| tool.kind.is_none()) {
            let name = tool.name.as_deref().unwrap();
            assert!(prompt.contains(&format!("{{\"name\":\"{name}\"")), "{}: {name} is lost", client.name);
        }
        let bytes = serde_json::to_string(&prompt).unwrap().len();
        assert!(bytes < 100_000, "{}: {bytes} bytes", client.name);
    }
}
