//! `MODEL_MAP`: other names for models, so that a client which asks for `claude-…` or `gpt-…` gets an answer.

/// Names or patterns with their targets, in the order in which they are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelMap(Vec<(String, String)>);

impl ModelMap {
    /// A map that leaves every name as it is.
    pub const EMPTY: Self = Self(Vec::new());

    /// [`Self::EMPTY`] as a reference.
    pub const NONE: &'static Self = &Self::EMPTY;

    /// Reads entries such as `claude-*=qwen3-max`.
    ///
    /// # Errors
    /// A sentence about the form of an entry.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let read = |entry: &String| {
            let (pattern, target) = entry.split_once('=').ok_or_else(expected)?;
            let (pattern, target) = (pattern.trim(), target.trim());
            let stem = pattern.strip_suffix('*').unwrap_or(pattern);
            // `a=>b`, `a==b` and `a=b;c=d` are slips, and no model's name has such characters.
            let is_odd = |c: char| matches!(c, '*' | '=' | '<' | '>' | ';' | '"' | '\'') || c.is_control();
            let is_name = |name: &str| !name.is_empty() && !name.contains(is_odd);
            let is_usable = (stem.is_empty() || is_name(stem)) && !pattern.is_empty() && is_name(target);
            if is_usable { Ok((pattern.to_owned(), target.to_owned())) } else { Err(expected()) }
        };
        entries.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The name that is looked up in place of `name`: the target of the first pattern that fits, else `name` itself.
    /// Targets are not looked up again.
    #[must_use]
    pub fn apply<'a>(&'a self, name: &'a str) -> &'a str {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(stem) => name.starts_with(stem),
            None => name == pattern,
        };
        self.0.iter().find(|(pattern, _)| fits(pattern)).map_or(name, |(_, target)| target)
    }

    /// The names as the map has them, each with its target. A pattern fits itself, so it can be asked for as well.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(pattern, target)| (pattern.as_str(), target.as_str()))
    }
}

fn expected() -> String {
    "must be entries such as claude-*=qwen3-max, with '*' at the end of a name or nowhere".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[&str]) -> Result<ModelMap, String> {
        ModelMap::parse(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_that_fits_wins() {
        let map =
            map(&["claude-3-haiku=small", " claude-* = qwen3-max ", "claude-opus=never", "gpt-4o*=key/vl"]).unwrap();
        for (name, target) in [
            ("claude-3-haiku", "small"),
            ("claude-3-haiku-20240307", "qwen3-max"),
            ("claude-opus", "qwen3-max"),
            ("claude-*", "qwen3-max"),
            ("claude-", "qwen3-max"),
            ("claude", "claude"),
            ("gpt-4o", "key/vl"),
            ("gpt-4", "gpt-4"),
            ("small", "small"),
        ] {
            assert_eq!(map.apply(name), target, "{name}");
        }
        assert_eq!(map.entries().count(), 4);
        assert_eq!(ModelMap::EMPTY.apply("x"), "x");
    }

    #[test]
    fn entries() {
        for entry in [
            "claude",
            "=x",
            "claude=",
            "cl*de=x",
            "**=x",
            "claude-*=qwen*",
            "",
            "a=>b",
            "a>=b",
            "a==b",
            "a=b;c=d",
            "a='b'",
        ] {
            assert!(map(&[entry]).is_err(), "{entry}");
        }
        assert_eq!(map(&["*=x"]).unwrap().apply("anything"), "x");
    }
}
