//! The upstream's model list, read leniently, and the names that callers may use for it.

use serde_json::Value;

use crate::chat::suffix::{Product, SUFFIXES, SuffixEffect, Work};
use crate::files::media_type::MediaKind;

/// Whether a model thinks, and whether that can be switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    /// The model never thinks.
    Never,
    /// Thinking can be switched on and off.
    OnRequest,
    /// Thinking cannot be switched off.
    Always,
}

/// The kinds of files that a model takes besides text. `None`: the catalogue does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Pictures, by `vision` of the catalogue.
    pub image: Option<bool>,
    /// Videos, by `video` of the catalogue.
    pub video: Option<bool>,
    /// Audio, by `audio` of the catalogue.
    pub audio: Option<bool>,
    /// Documents, by `document` of the catalogue.
    pub document: Option<bool>,
}

impl Abilities {
    /// Whether files of a kind can be sent; `true` if the catalogue does not say.
    #[must_use]
    pub fn takes(&self, kind: MediaKind) -> bool {
        let known = match kind {
            MediaKind::Image => self.image,
            MediaKind::Video => self.video,
            MediaKind::Audio => self.audio,
            MediaKind::Document => self.document,
        };
        known != Some(false)
    }
}

/// One model of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// The upstream's id of the model, unique in the catalogue.
    pub id: String,
    /// Creation of the model, in Unix seconds; [`CREATED_DEFAULT`] if the catalogue has none.
    pub created: u32,
    /// `owned_by`, as the upstream says.
    pub owned_by: String,
    /// Whether it thinks, and whether that can be switched.
    pub thinking: Thinking,
    /// Whether the chat type `search` is offered.
    pub search: bool,
    /// Kinds of text that the catalogue offers with it.
    pub writes: Vec<Work>,
    /// Whether the catalogue lists the chat types of this model. If not, [`Self::search`], [`Self::writes`] and
    /// [`Self::makes`] may be incomplete.
    pub tells_chat_types: bool,
    /// The kinds of files that it takes.
    pub abilities: Abilities,
    /// Whether pictures and videos can be made in its chats.
    pub makes: Makes,
    /// Tokens of context, when the upstream says so.
    pub context_length: Option<u64>,
}

/// The pictures and videos that the chats of a model can make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Makes {
    /// Pictures from words: chat type `t2i` is offered.
    pub image: bool,
    /// Pictures from pictures: chat type `image_edit` is offered.
    pub image_edit: bool,
    /// Videos: chat type `t2v` is offered.
    pub video: bool,
}

impl Makes {
    /// Whether chats can make this product.
    #[must_use]
    pub fn has(self, product: Product) -> bool {
        match product {
            Product::Image => self.image,
            Product::ImageEdit => self.image_edit,
            Product::Video => self.video,
        }
    }
}

impl ModelInfo {
    /// Whether it may be asked to search; `true` if the catalogue does not list chat types.
    #[must_use]
    pub fn may_search(&self) -> bool {
        self.search || !self.tells_chat_types
    }

    /// Whether it may be asked to write this; `true` if the catalogue does not list chat types.
    #[must_use]
    pub fn may_write(&self, work: Work) -> bool {
        self.writes.contains(&work) || !self.tells_chat_types
    }

    /// Whether it may be asked to make this; `true` if the catalogue does not list chat types.
    #[must_use]
    pub fn may_make(&self, product: Product) -> bool {
        self.makes.has(product) || !self.tells_chat_types
    }
}

/// The name most similar to `name`, if one is more similar than [`LIKENESS_MIN`].
#[must_use]
pub(crate) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    let alike = |other: &'a str| (strsim::jaro_winkler(&name, &other.to_ascii_lowercase()), other);
    let best = names.into_iter().map(alike).max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(likeness, _)| *likeness > LIKENESS_MIN).map(|(_, other)| other)
}

/// Least Jaro-Winkler similarity (0 to 1) of a name that is suggested.
const LIKENESS_MIN: f64 = 0.8;
/// The date that models without one get, so that `created` stays the same from call to call.
pub(crate) const CREATED_DEFAULT: u32 = 1_732_711_466;

/// Reads `{"data": [Model…]}` or `{"success": true, "data": {"data": [Model…]}}`. Entries without an id and
/// repeated ids are left out; inactive models too.
///
/// # Errors
/// `None` if the list is missing or empty.
#[must_use]
pub(crate) fn parse_catalogue(body: &[u8]) -> Option<Vec<ModelInfo>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let data = body.get("data")?;
    let list = data.as_array().or_else(|| data.get("data")?.as_array())?;
    let mut models: Vec<ModelInfo> = Vec::with_capacity(list.len());
    for entry in list {
        if let Some(model) = model_of(entry)
            && !models.iter().any(|seen| seen.id == model.id)
        {
            models.push(model);
        }
    }
    (!models.is_empty()).then_some(models)
}

fn model_of(entry: &Value) -> Option<ModelInfo> {
    let id = entry.get("id")?.as_str().filter(|id| !id.trim().is_empty())?;
    let info = entry.get("info").unwrap_or(&Value::Null);
    if info.get("is_active").and_then(Value::as_bool) == Some(false) {
        return None;
    }
    let meta = info.get("meta").unwrap_or(&Value::Null);
    let ability = meta.get("abilities").and_then(|abilities| abilities.get("thinking"));
    let capable = meta.get("capabilities").and_then(|capabilities| capabilities.get("thinking"));
    // `think_skip.enable: false` and the ability 4 both say that thinking cannot be turned off.
    let unskippable =
        meta.get("think_skip").and_then(|skip| skip.get("enable")).and_then(Value::as_bool) == Some(false);
    let ability = ability.and_then(Value::as_u64);
    let thinks = ability.is_some_and(|level| level > 0) || capable.and_then(Value::as_bool) == Some(true);
    let thinking = match (thinks, unskippable || ability == Some(4)) {
        (true, true) => Thinking::Always,
        (true, false) => Thinking::OnRequest,
        (false, _) => Thinking::Never,
    };
    let chat_types = meta.get("chat_type").and_then(Value::as_array);
    let offers = |wanted: &str| chat_types.is_some_and(|types| types.iter().any(|word| word == wanted));
    // Numbers and flags stand side by side and mean the same.
    let takes = |name: &str| {
        let level = meta.get("abilities").and_then(|abilities| abilities.get(name)).and_then(Value::as_u64);
        let flag = meta.get("capabilities").and_then(|capabilities| capabilities.get(name)).and_then(Value::as_bool);
        let told = meta.get("abilities").is_some_and(Value::is_object)
            || meta.get("capabilities").is_some_and(Value::is_object);
        match (level.map(|level| level > 0), flag) {
            (None, None) => told.then_some(false),
            (level, flag) => Some(level == Some(true) || flag == Some(true)),
        }
    };
    let created = info.get("created_at").and_then(Value::as_u64).and_then(|at| u32::try_from(at).ok());
    Some(ModelInfo {
        id: id.to_owned(),
        created: created.filter(|at| *at > 0).unwrap_or(CREATED_DEFAULT),
        owned_by: entry.get("owned_by").and_then(Value::as_str).unwrap_or("qwen").to_owned(),
        thinking,
        search: offers("search"),
        writes: WORKS.iter().filter(|(word, _)| offers(word)).map(|(_, work)| *work).collect(),
        tells_chat_types: chat_types.is_some(),
        abilities: Abilities {
            image: takes("vision"),
            video: takes("video"),
            audio: takes("audio"),
            document: takes("document"),
        },
        makes: Makes { image: offers("t2i"), image_edit: offers("image_edit"), video: offers("t2v") },
        context_length: meta.get("max_context_length").and_then(Value::as_u64),
    })
}

/// The upstream's words for kinds of text.
const WORKS: [(&str, Work); 6] = [
    ("deep_research", Work::Research),
    ("artifacts", Work::Artifact),
    ("web_dev", Work::WebPage),
    ("learn", Work::Lesson),
    ("translate", Work::Translation),
    ("vqa", Work::VisualAnswer),
];

/// The list that serves until the upstream's was read for the first time.
#[must_use]
pub(crate) fn builtin_catalogue() -> Vec<ModelInfo> {
    let model = |id: &str, thinking| ModelInfo {
        id: id.to_owned(),
        created: CREATED_DEFAULT,
        owned_by: "qwen".to_owned(),
        thinking,
        search: true,
        writes: WORKS.map(|(_, work)| work).to_vec(),
        tells_chat_types: true,
        abilities: Abilities::default(),
        makes: Makes { image: true, image_edit: true, video: true },
        context_length: None,
    };
    vec![
        model("qwen3-max", Thinking::OnRequest),
        model("qwen3.7-plus", Thinking::OnRequest),
        model("qwen3.7-max", Thinking::Always),
        model("qwen3-coder-plus", Thinking::Never),
        model("qwen3-vl-plus", Thinking::OnRequest),
    ]
}

/// Every name that can be used, in the catalogue's order: each model, then its variants by suffix.
#[must_use]
pub(crate) fn with_variants(models: &[ModelInfo]) -> Vec<(String, &ModelInfo)> {
    let mut names: Vec<(String, &ModelInfo)> = Vec::new();
    for model in models {
        names.push((model.id.clone(), model));
        let mut variants = vec![model.id.clone()];
        let mut alone = Vec::new();
        for (suffix, effect) in SUFFIXES {
            let is_offered = match effect {
                SuffixEffect::Thinking => model.thinking == Thinking::OnRequest,
                SuffixEffect::Search => model.search,
                SuffixEffect::Write(work) => {
                    alone.extend(model.writes.contains(work).then(|| format!("{}{suffix}", model.id)));
                    false
                }
                SuffixEffect::Make(product) => {
                    alone.extend(model.makes.has(*product).then(|| format!("{}{suffix}", model.id)));
                    false
                }
            };
            if is_offered {
                variants.extend(variants.clone().iter().map(|name| format!("{name}{suffix}")));
            }
        }
        // Research searches and thinks by itself, and neither means anything where no text is made.
        variants.extend(alone);
        for name in variants.into_iter().skip(1) {
            if !models.iter().any(|other| other.id == name) {
                names.push((name, model));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(body: &Value, expected: &str) {
        let described = |model: ModelInfo| {
            let ModelInfo { id, created, owned_by, thinking, search, context_length, .. } = model;
            format!("{id} {created} {owned_by} {thinking:?} {search} {}", context_length.unwrap_or(0))
        };
        let models = parse_catalogue(body.to_string().as_bytes());
        let found =
            models.map_or_else(String::new, |models| models.into_iter().map(described).collect::<Vec<_>>().join(", "));
        assert_eq!(found, expected, "{body}");
    }

    /// One entry with this `meta`.
    fn check_meta(meta: &Value, expected: &str) {
        check(&json!({"data": [{"id": "m", "info": {"meta": meta}}]}), &format!("m {CREATED_DEFAULT} qwen {expected}"));
    }

    #[test]
    fn lists() {
        let plain = format!("m {CREATED_DEFAULT} qwen Never false 0");
        check(&json!({"data": [{"id": "m"}]}), &plain);
        check(&json!({"success": true, "request_id": "r", "data": {"data": [{"id": "m"}]}}), &plain);
        check(
            &json!({"data": [null, 5, "x", [], {}, {"id": null}, {"id": 5}, {"id": " "}, {"id": "m"}, {"id": "m"}]}),
            &plain,
        );
        check(&json!({"data": [{"id": "m", "info": null, "owned_by": 5}]}), &plain);
        check(&json!({"data": [{"id": "m", "info": {"meta": [], "is_active": null, "created_at": "x"}}]}), &plain);
        check(&json!({"data": [{"id": "off", "info": {"is_active": false}}, {"id": "m"}]}), &plain);
        check(&json!({"data": [{"id": "m", "owned_by": "o", "info": {"created_at": 5}}]}), "m 5 o Never false 0");
        check(&json!({"data": [{"id": "m", "info": {"created_at": 1_732_711_466_000_u64}}]}), &plain);
        for body in [
            json!({"data": []}),
            json!({"data": {}}),
            json!({"data": null}),
            json!([]),
            json!({"success": false, "data": {"code": "x"}}),
        ] {
            check(&body, "");
        }
        assert_eq!(parse_catalogue(b"<html>"), None);
        assert_eq!(parse_catalogue(b"\xff"), None);
    }

    #[test]
    fn what_a_model_can_do() {
        check_meta(&json!({"abilities": {"thinking": 1}}), "OnRequest false 0");
        check_meta(&json!({"abilities": {"thinking": 3}, "chat_type": ["t2t", "search"]}), "OnRequest true 0");
        check_meta(&json!({"abilities": {"thinking": 4}, "max_context_length": 1_000_000}), "Always false 1000000");
        check_meta(&json!({"abilities": {"thinking": 0}}), "Never false 0");
        check_meta(&json!({"abilities": {"thinking": "3"}, "chat_type": "search"}), "Never false 0");
        check_meta(&json!({"capabilities": {"thinking": true}}), "OnRequest false 0");
        check_meta(&json!({"capabilities": {"thinking": true}, "think_skip": {"enable": false}}), "Always false 0");
        check_meta(&json!({"capabilities": {"thinking": true}, "think_skip": {"enable": true}}), "OnRequest false 0");
        check_meta(&json!({"think_skip": {"enable": false}}), "Never false 0");
        check_meta(&json!({"chat_type": [null, 5, "search"]}), "Never true 0");
        check_meta(&json!({"max_context_length": -1}), "Never false 0");
    }

    #[test]
    fn what_can_be_sent_and_made() {
        let abilities = |meta: Value| {
            let models = parse_catalogue(json!({"data": [{"id": "m", "info": {"meta": meta}}]}).to_string().as_bytes());
            let model = models.unwrap().remove(0);
            let told = [MediaKind::Image, MediaKind::Video, MediaKind::Audio, MediaKind::Document];
            let takes: Vec<&str> =
                told.into_iter().filter(|kind| model.abilities.takes(*kind)).map(MediaKind::noun).collect();
            let Makes { image, image_edit, video } = model.makes;
            format!("{} {image} {image_edit} {video}", takes.join("+"))
        };
        let all = "picture+video+sound+document";
        assert_eq!(abilities(json!({})), format!("{all} false false false"));
        assert_eq!(abilities(json!({"capabilities": {"vision": true}})), "picture false false false");
        assert_eq!(
            abilities(json!({"abilities": {"vision": 1, "audio": 0, "document": 2}})),
            "picture+document false false false"
        );
        assert_eq!(
            abilities(json!({"abilities": {"vision": 0}, "capabilities": {"vision": true}})),
            "picture false false false"
        );
        assert_eq!(abilities(json!({"capabilities": {}, "chat_type": ["t2t", "t2i", "t2v"]})), " true false true");
        assert_eq!(
            abilities(json!({"capabilities": 5, "chat_type": ["image_edit"]})),
            format!("{all} false true false")
        );
    }

    #[test]
    fn names() {
        let model = |id: &str, thinking, search| ModelInfo {
            thinking,
            search,
            writes: vec![],
            makes: Makes::default(),
            id: id.to_owned(),
            ..builtin_catalogue().into_iter().next().unwrap()
        };
        let check = |models: &[ModelInfo], expected: &str| {
            let names: Vec<String> = with_variants(models).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names.join(" "), expected);
        };
        check(&[], "");
        check(&[model("a", Thinking::Never, false)], "a");
        check(&[model("a", Thinking::Always, true)], "a a-search");
        check(&[model("a", Thinking::OnRequest, true)], "a a-thinking a-search a-thinking-search");
        let maker = ModelInfo {
            writes: vec![Work::Research, Work::Artifact],
            makes: Makes { image: true, image_edit: true, video: true },
            ..model("a", Thinking::Never, true)
        };
        check(&[maker], "a a-search a-deep-research a-image a-image_edit a-video");
        let own = [model("a", Thinking::OnRequest, false), model("a-thinking", Thinking::Always, false)];
        check(&own, "a a-thinking");
        let builtin = builtin_catalogue();
        let mut names: Vec<String> = with_variants(&builtin).into_iter().map(|(name, _)| name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "names are unique");
    }
}
