//! Suffixes of model names, which ask for more than the model itself.

/// The effect of a suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SuffixEffect {
    /// The model thinks before it answers.
    Thinking,
    /// The model may search the web.
    Search,
    /// Text of a kind of its own is written.
    Write(Work),
    /// A picture or a video is made in place of text.
    Make(Product),
}

/// Text that is written in another way than an answer of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A report, after minutes of searching and reading.
    Research,
    /// A document or a small program, as code.
    Artifact,
    /// A web page, as code.
    WebPage,
    /// An explanation for learners.
    Lesson,
    /// A text in another language.
    Translation,
    /// An answer about what is seen in a picture.
    VisualAnswer,
}

impl Work {
    /// Plural of the product, for messages to callers.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Research => "deep research",
            Self::Artifact => "artifacts",
            Self::WebPage => "web pages",
            Self::Lesson => "lessons",
            Self::Translation => "translations",
            Self::VisualAnswer => "answers about pictures",
        }
    }
}

/// A product other than text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// A picture, from words.
    Image,
    /// A picture, from pictures.
    ImageEdit,
    Video,
}

impl Product {
    /// Plural of the product, for messages to callers.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Image => "pictures",
            Self::ImageEdit => "changed pictures",
            Self::Video => "videos",
        }
    }
}

/// The one table of suffixes. Parsing, the variants in the model list and the README's table follow it.
pub(crate) const SUFFIXES: &[(&str, SuffixEffect)] = &[
    ("-thinking", SuffixEffect::Thinking),
    ("-search", SuffixEffect::Search),
    ("-deep-research", SuffixEffect::Write(Work::Research)),
    ("-image", SuffixEffect::Make(Product::Image)),
    ("-image_edit", SuffixEffect::Make(Product::ImageEdit)),
    ("-video", SuffixEffect::Make(Product::Video)),
];

/// Suffixes that are taken but not listed: other spellings, and kinds of text that few ask for.
pub(crate) const UNLISTED: &[(&str, SuffixEffect)] = &[
    ("-image-edit", SuffixEffect::Make(Product::ImageEdit)),
    ("-deep_research", SuffixEffect::Write(Work::Research)),
    ("-artifacts", SuffixEffect::Write(Work::Artifact)),
    ("-web-dev", SuffixEffect::Write(Work::WebPage)),
    ("-web_dev", SuffixEffect::Write(Work::WebPage)),
    ("-learn", SuffixEffect::Write(Work::Lesson)),
    ("-translate", SuffixEffect::Write(Work::Translation)),
    ("-vqa", SuffixEffect::Write(Work::VisualAnswer)),
];

/// The prefix that names the web chat among the kinds of upstream.
pub(crate) const WEB_PREFIX: &str = "web/";

/// A model name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// The upstream's id of the model, or the name itself when it is unknown.
    pub base: String,
    /// The suffix `-thinking` was there.
    pub thinking: bool,
    /// The suffix `-search` was there.
    pub search: bool,
    /// The kind of text that the last suffix for it asks for; `None` for an answer of a chat.
    pub work: Option<Work>,
    /// The product that the last suffix for one asks for; `None` for text.
    pub product: Option<Product>,
    /// Whether `base` is in the catalogue that was asked.
    pub is_known: bool,
}

impl ModelSpec {
    /// Takes a name apart: a `web/` prefix, then suffixes in any order and number. A name that the catalogue has
    /// exactly wins over a suffix, at every step: `qwen3-235b-thinking` may be a model of its own.
    #[must_use]
    pub fn parse(name: &str, is_known: impl Fn(&str) -> bool) -> Self {
        let name = name.trim();
        let mut base = if is_known(name) { name } else { name.strip_prefix(WEB_PREFIX).unwrap_or(name) };
        let (mut thinking, mut search, mut work, mut product) = (false, false, None, None);
        while !is_known(base) {
            let mut suffixes = UNLISTED.iter().chain(SUFFIXES);
            let stripped = suffixes.find_map(|(suffix, effect)| Some((base.strip_suffix(suffix)?, effect)));
            let Some((shorter, effect)) = stripped.filter(|(shorter, _)| !shorter.is_empty()) else {
                break;
            };
            base = shorter;
            match effect {
                SuffixEffect::Thinking => thinking = true,
                SuffixEffect::Search => search = true,
                SuffixEffect::Write(what) => work = work.or(Some(*what)),
                SuffixEffect::Make(what) => product = product.or(Some(*what)),
            }
        }
        Self { base: base.to_owned(), thinking, search, work, product, is_known: is_known(base) }
    }

    /// Takes a name apart by the ids of a catalogue. An exact id wins; else upper and lower case are the same, where
    /// only one id fits.
    #[must_use]
    pub fn parse_among<'a>(name: &str, ids: impl Iterator<Item = &'a str> + Clone) -> Self {
        let exact = Self::parse(name, |id| ids.clone().any(|known| known == id));
        if exact.is_known {
            return exact;
        }
        let is_known = |id: &str| ids.clone().any(|known| known.eq_ignore_ascii_case(id));
        let lower = Self::parse(&name.to_ascii_lowercase(), is_known);
        let mut fitting = ids.clone().filter(|known| known.eq_ignore_ascii_case(&lower.base));
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Self { base: only.to_owned(), ..lower },
            (None, _) | (Some(_), Some(_)) => exact,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_makes_no_difference_where_one_model_fits() {
        let check = |ids: &[&str], name: &str, expected: Option<&str>| {
            let spec = ModelSpec::parse_among(name, ids.iter().copied());
            assert_eq!(spec.is_known.then_some(spec.base.as_str()), expected, "{name}");
            spec
        };
        check(&["qwen3-max"], "Qwen3-Max", Some("qwen3-max"));
        check(&["Qwen3-235B"], "qwen3-235b", Some("Qwen3-235B"));
        let spec = check(&["qwen3-max", "qwen3"], " WEB/QWEN3-MAX-Thinking-SEARCH", Some("qwen3-max"));
        assert!(spec.thinking && spec.search);
        check(&["Qwen-A", "qwen-a"], "Qwen-A", Some("Qwen-A"));
        check(&["Qwen-A", "qwen-a"], "QWEN-A", None);
        check(&["qwen3-max"], "Qwen3-Maxx", None);
        check(&["qwen3-max"], "", None);
    }

    #[test]
    fn names() {
        let catalogue = ["qwen3-max", "qwen3-235b-thinking", "web/odd"];
        let check = |name: &str, base: &str, thinking: bool, search: bool, is_known: bool| {
            let spec = ModelSpec::parse(name, |id| catalogue.contains(&id));
            let expected = ModelSpec { base: base.to_owned(), thinking, search, work: None, product: None, is_known };
            assert_eq!(spec, expected, "{name}");
        };
        check("qwen3-max", "qwen3-max", false, false, true);
        check(" qwen3-max ", "qwen3-max", false, false, true);
        check("web/qwen3-max", "qwen3-max", false, false, true);
        check("web/odd", "web/odd", false, false, true);
        check("qwen3-max-thinking", "qwen3-max", true, false, true);
        check("qwen3-max-search", "qwen3-max", false, true, true);
        check("qwen3-max-thinking-search", "qwen3-max", true, true, true);
        check("qwen3-max-search-thinking", "qwen3-max", true, true, true);
        check("web/qwen3-max-search-thinking", "qwen3-max", true, true, true);
        check("qwen3-235b-thinking", "qwen3-235b-thinking", false, false, true);
        check("qwen3-235b-thinking-search", "qwen3-235b-thinking", false, true, true);
        check("qwen3-235b-thinking-thinking", "qwen3-235b-thinking", true, false, true);
        check("gpt-4o", "gpt-4o", false, false, false);
        check("gpt-4o-search", "gpt-4o", false, true, false);
        check("-thinking", "-thinking", false, false, false);
        check("", "", false, false, false);
    }

    #[test]
    fn what_is_written() {
        for (name, base, work) in [
            ("qwen3-max-deep-research", "qwen3-max", Some(Work::Research)),
            ("qwen3-max-deep_research-thinking", "qwen3-max", Some(Work::Research)),
            ("web/qwen3-max-search-deep-research", "qwen3-max", Some(Work::Research)),
            ("qwen3-max-artifacts", "qwen3-max", Some(Work::Artifact)),
            ("qwen3-max-web_dev", "qwen3-max", Some(Work::WebPage)),
            ("qwen3-max-learn-web-dev", "qwen3-max", Some(Work::WebPage)),
            ("qwen3-max-translate", "qwen3-max", Some(Work::Translation)),
            ("qwen3-max-vqa-thinking", "qwen3-max", Some(Work::VisualAnswer)),
            ("qwen-deep-research", "qwen-deep-research", None),
            ("qwen3-max-research", "qwen3-max-research", None),
        ] {
            let spec = ModelSpec::parse(name, |id| ["qwen3-max", "qwen-deep-research"].contains(&id));
            assert_eq!((spec.base.as_str(), spec.work), (base, work), "{name}");
        }
    }

    #[test]
    fn what_is_made() {
        for (name, base, product) in [
            ("qwen3-max", "qwen3-max", None),
            ("qwen3-max-image", "qwen3-max", Some(Product::Image)),
            ("qwen3-max-image_edit", "qwen3-max", Some(Product::ImageEdit)),
            ("qwen3-max-image-edit", "qwen3-max", Some(Product::ImageEdit)),
            ("qwen3-max-video", "qwen3-max", Some(Product::Video)),
            ("web/qwen3-max-thinking-video-search", "qwen3-max", Some(Product::Video)),
            ("qwen3-max-image-video", "qwen3-max", Some(Product::Video)),
            ("qwen-image", "qwen-image", None),
            ("qwen-image-image", "qwen-image", Some(Product::Image)),
        ] {
            let spec = ModelSpec::parse(name, |id| ["qwen3-max", "qwen-image"].contains(&id));
            assert_eq!((spec.base.as_str(), spec.product), (base, product), "{name}");
        }
    }
}
