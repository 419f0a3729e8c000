//! The names of the tools that a caller declared.

use std::collections::HashMap;

/// Declared names, with lookups for names as models write them.
#[derive(Clone, Debug)]
pub struct ToolNames {
    names: Vec<String>,
    exact: HashMap<String, usize>,
    /// By folded name; `None` where two names differ in case or separators only.
    folded: HashMap<String, Option<usize>>,
    /// For each byte, whether a name begins with it, in either case.
    first: Vec<bool>,
}

impl ToolNames {
    /// The lookups for these names. Of equal names the first counts.
    pub fn new(declared: impl IntoIterator<Item = String>) -> Self {
        let names: Vec<String> = declared.into_iter().collect();
        let (mut exact, mut folded, mut first) = (HashMap::new(), HashMap::new(), vec![false; 256]);
        for (place, name) in names.iter().enumerate() {
            if exact.contains_key(name) {
                continue;
            }
            exact.insert(name.clone(), place);
            folded.entry(fold(name)).and_modify(|found| *found = None).or_insert(Some(place));
            for byte in name.bytes().take(1).flat_map(|byte| [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()]) {
                if let Some(begins) = first.get_mut(usize::from(byte)) {
                    *begins = true;
                }
            }
        }
        Self { names, exact, folded, first }
    }

    /// The names in the order of their declaration.
    #[must_use]
    pub fn all(&self) -> &[String] {
        &self.names
    }

    /// The place of the tool that is meant: the one of exactly this name, else the only one whose name differs in
    /// case or in `-` and `_` at most.
    #[must_use]
    pub fn place(&self, written: &str) -> Option<usize> {
        let exact = self.exact.get(written).copied();
        exact.or_else(|| self.folded.get(&fold(written)).copied().flatten())
    }

    /// Whether a declared tool is meant.
    #[must_use]
    pub fn has(&self, written: &str) -> bool {
        self.place(written).is_some()
    }

    /// Whether this byte can be the first of a declared name.
    #[must_use]
    pub(crate) fn may_begin_with(&self, byte: u8) -> bool {
        self.first.get(usize::from(byte)).copied().unwrap_or_default()
    }

    /// Whether more text can make a declared name of this beginning.
    #[must_use]
    pub(crate) fn may_become(&self, beginning: &str) -> bool {
        let beginning = fold(beginning);
        self.folded.keys().any(|name| name.starts_with(&beginning))
    }
}

/// A name, or the key of an argument, without the differences that are repaired: case, and `-` for `_`.
#[must_use]
pub(crate) fn fold(name: &str) -> String {
    name.replace('-', "_").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let names = ToolNames::new(["read_file", "Bash", "list-dir", "get_x", "get-x"].map(str::to_owned));
        let check = |written: &str, expected: Option<usize>| assert_eq!(names.place(written), expected, "{written}");
        check("read_file", Some(0));
        check("read-file", Some(0));
        check("Read_File", Some(0));
        check("bash", Some(1));
        check("list_dir", Some(2));
        check("get_x", Some(3));
        check("get-x", Some(4));
        check("GET_X", None);
        check("readfile", None);
        check("", None);
        assert!(names.may_become("READ") && !names.may_become("write"));
        assert!(names.may_begin_with(b'b') && names.may_begin_with(b'R') && !names.may_begin_with(b'x'));
    }
}
