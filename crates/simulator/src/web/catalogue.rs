//! The models of the simulated upstream, as full objects.

use serde_json::{Value, json};

/// Whether a model thinks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thinking {
    Never,
    Switchable,
    Always,
}

struct Model {
    id: &'static str,
    name: &'static str,
    about: &'static str,
    context: u64,
    output: u64,
    thinking: Thinking,
    /// Whether it accepts pictures and videos.
    sees: bool,
    /// Whether it accepts audio.
    hears: bool,
}

/// The list as both model endpoints give it.
pub(crate) fn models() -> Value {
    Value::Array(MODELS.iter().map(object).collect())
}

/// Whether this model refuses to answer without thinking.
pub(crate) fn always_thinks(id: &str) -> bool {
    MODELS.iter().any(|model| model.id == id && model.thinking == Thinking::Always)
}

/// Whether a model accepts pictures and videos, and whether it accepts audio; `None` for an unknown model.
pub(crate) fn senses(id: &str) -> Option<(bool, bool)> {
    MODELS.iter().find(|model| model.id == id).map(|model| (model.sees, model.hears))
}

fn object(model: &Model) -> Value {
    let thinks = model.thinking != Thinking::Never;
    let seeing = u8::from(model.sees);
    let mut modality = vec!["text"];
    if model.sees {
        modality.extend(["image", "video"]);
    }
    if model.hears {
        modality.push("audio");
    }
    let mut chat_types = vec![
        "t2t",
        "t2v",
        "t2i",
        "image_edit",
        "search",
        "artifacts",
        "web_dev",
        "deep_research",
        "travel",
        "learn",
        "slides",
    ];
    // Seen in October 2026, on this model of those here.
    if model.id == "qwen3.7-plus" {
        chat_types.extend(["vqa", "translate"]);
    }
    let mut meta = json!({
        "profile_image_url": "/static/favicon.png",
        "description": model.about,
        "short_description": model.about,
        "capabilities": {
            "document": true, "vision": model.sees, "video": model.sees, "audio": model.hears,
            "citations": true, "search": true, "thinking": thinks, "thinking_budget": thinks,
        },
        "max_context_length": model.context,
        "abilities": {
            "document": 1, "vision": seeing, "video": seeing, "audio": u8::from(model.hears), "mcp": 1,
            "citations": 1, "parse_url": 2,
        },
        "chat_type": chat_types,
        "mcp": ["image-generation", "code-interpreter", "amap", "fire-crawl"],
        "modality": modality,
        "auto_thinking": model.thinking == Thinking::Switchable,
        "auto_search": true,
    });
    if thinks {
        let level = if model.thinking == Thinking::Always { 4 } else { 3 };
        set(&mut meta, &["abilities", "thinking"], json!(level));
        set(&mut meta, &["abilities", "thinking_budget"], json!(level));
        set(&mut meta, &["thinking_format"], json!("summary"));
        let skippable = model.thinking == Thinking::Switchable;
        set(&mut meta, &["think_skip"], json!({ "enable": skippable }));
        set(&mut meta, &["max_thinking_generation_length"], json!(81_920));
        set(&mut meta, &["max_summary_generation_length"], json!(model.output));
    } else {
        set(&mut meta, &["max_generation_length"], json!(model.output));
    }
    json!({
        "id": model.id, "name": model.name, "object": "model", "owned_by": "qwen",
        "info": {
            "id": model.id, "user_id": "5b1d0c2e-0f37-4a86-9d54-1f2ab6c0e913", "base_model_id": null,
            "name": model.name, "meta": meta, "access_control": null, "is_active": true,
            "is_visitor_active": true, "updated_at": 1_780_000_000, "created_at": 1_780_000_000,
        },
        "preset": true, "action_ids": [],
    })
}

fn set(value: &mut Value, path: &[&str], to: Value) {
    let mut place = value;
    for step in path {
        let Some(object) = place.as_object_mut() else {
            return;
        };
        place = object.entry(*step).or_insert(Value::Null);
    }
    *place = to;
}

/// The first one is the default of the site.
const MODELS: &[Model] = &[
    Model {
        id: "qwen3-max",
        name: "Qwen3-Max",
        about: "Simulated: the default, thinks when asked",
        context: 262_144,
        output: 32_768,
        thinking: Thinking::Switchable,
        sees: false,
        hears: false,
    },
    Model {
        id: "qwen3.7-plus",
        name: "Qwen3.7-Plus",
        about: "Simulated: sees, hears, thinks when asked",
        context: 1_000_000,
        output: 65_536,
        thinking: Thinking::Switchable,
        sees: true,
        hears: true,
    },
    Model {
        id: "qwen3.7-max",
        name: "Qwen3.7-Max",
        about: "Simulated: text only, always thinks",
        context: 1_000_000,
        output: 65_536,
        thinking: Thinking::Always,
        sees: false,
        hears: false,
    },
    Model {
        id: "qwen3-coder-plus",
        name: "Qwen3-Coder",
        about: "Simulated: for code, never thinks",
        context: 1_048_576,
        output: 65_536,
        thinking: Thinking::Never,
        sees: false,
        hears: false,
    },
    Model {
        id: "qwen3-vl-plus",
        name: "Qwen3-VL-Plus",
        about: "Simulated: sees, thinks when asked",
        context: 262_144,
        output: 32_768,
        thinking: Thinking::Switchable,
        sees: true,
        hears: false,
    },
    Model {
        id: "qwen3.5-omni-plus",
        name: "Qwen3.5-Omni-Plus",
        about: "Simulated: sees and hears, never thinks",
        context: 262_144,
        output: 65_536,
        thinking: Thinking::Never,
        sees: true,
        hears: true,
    },
    Model {
        id: "qwen3-235b-thinking",
        name: "Qwen3-235B-Thinking",
        about: "Simulated: a whole id that ends like a suffix",
        context: 131_072,
        output: 32_768,
        thinking: Thinking::Always,
        sees: false,
        hears: false,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_says_how_it_thinks_and_what_it_senses() {
        let models = models();
        let meta = |id: &str| {
            let models = models.as_array().unwrap();
            let model = models.iter().find(|model| model["id"] == id).unwrap();
            model["info"]["meta"].clone()
        };
        assert_eq!(models[0]["id"], "qwen3-max");
        assert_eq!(meta("qwen3-max")["abilities"]["thinking"], 3);
        assert_eq!(meta("qwen3.7-max")["abilities"]["thinking"], 4);
        assert_eq!(meta("qwen3.7-max")["think_skip"]["enable"], false);
        assert_eq!(meta("qwen3.7-max")["modality"], json!(["text"]));
        assert_eq!(meta("qwen3-coder-plus")["capabilities"]["thinking"], false);
        assert_eq!(meta("qwen3-coder-plus")["max_generation_length"], 65_536);
        for (id, sees, hears) in [
            ("qwen3-vl-plus", true, false),
            ("qwen3.5-omni-plus", true, true),
            ("qwen3-coder-plus", false, false),
            ("qwen3.7-max", false, false),
        ] {
            let (meta, senses) = (meta(id), senses(id).unwrap());
            assert_eq!(senses, (sees, hears), "{id}");
            for (name, expected) in [("document", true), ("vision", sees), ("video", sees), ("audio", hears)] {
                assert_eq!(meta["capabilities"][name], expected, "{id} {name}");
                assert_eq!(meta["abilities"][name], u8::from(expected), "{id} {name}");
            }
            let makes = |kind: &str| meta["chat_type"].as_array().unwrap().iter().any(|one| one == kind);
            assert!(["t2i", "image_edit", "t2v"].into_iter().all(makes), "{id}");
        }
        assert!(always_thinks("qwen3-235b-thinking") && !always_thinks("qwen3-235b"));
    }
}
