//! A text for people in both languages of the owner's page.

use serde::Serialize;

/// One text in English and in Chinese. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bilingual {
    /// The text in English, for pages in that language.
    pub en: String,
    /// The same text in Chinese.
    pub zh: String,
}

impl Bilingual {
    /// A text in both languages.
    #[must_use]
    pub fn new(en: impl Into<String>, zh: impl Into<String>) -> Self {
        Self { en: en.into(), zh: zh.into() }
    }
}
