//! Compiled tool sets of the last requests: an agent sends the same tools with every turn.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::chat::conversation::ToolSpec;
use crate::chat::tools::check::{ToolSet, ToolSetError, ToolSetKey};

/// The most bytes of schemas that are kept compiled; a set that has more by itself is not kept.
const BYTES_MAX: usize = 1024 * 1024;
/// The most sets that are kept.
const SETS_MAX: usize = 64;

/// The sets that were used last, newest at the end. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToolSets(Arc<Mutex<VecDeque<Arc<ToolSet>>>>);

impl ToolSets {
    /// The compiled form of these tools. It is compiled now unless it is among those that were used last.
    ///
    /// # Errors
    /// [`ToolSetError`]: the first schema that cannot be used.
    pub(crate) fn get(&self, tools: &[ToolSpec]) -> Result<Arc<ToolSet>, ToolSetError> {
        let key = ToolSetKey::of(tools);
        let known = {
            let mut sets = self.0.lock();
            let place = sets.iter().position(|set| set.key() == key);
            place.and_then(|place| sets.remove(place))
        };
        // Compiled without the lock: that can take milliseconds.
        let set = known.map_or_else(|| ToolSet::compile(tools).map(Arc::new), Ok)?;
        self.keep(Arc::clone(&set));
        Ok(set)
    }

    fn keep(&self, set: Arc<ToolSet>) {
        let mut sets = self.0.lock();
        // Another request may have compiled it at the same time.
        sets.retain(|kept| kept.key() != set.key());
        sets.push_back(set);
        let mut bytes: usize = sets.iter().map(|set| set.bytes()).sum();
        while bytes > BYTES_MAX || sets.len() > SETS_MAX {
            let Some(oldest) = sets.pop_front() else { return };
            bytes -= oldest.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tools(name: &str, bytes: usize) -> Vec<ToolSpec> {
        let schema = json!({"type": "object", "properties": {"a": {"const": "x".repeat(bytes)}}});
        let parameters = schema.as_object().unwrap().clone();
        vec![ToolSpec {
            name: name.to_owned(),
            description: None,
            parameters,
            parameters_at: String::new(),
            strict: None,
        }]
    }

    #[test]
    fn the_same_tools_are_compiled_once() {
        let sets = ToolSets::default();
        let first = sets.get(&tools("ls", 10)).unwrap();
        assert!(Arc::ptr_eq(&first, &sets.get(&tools("ls", 10)).unwrap()));
        for other in [tools("ls", 11), tools("pwd", 10)] {
            assert!(!Arc::ptr_eq(&first, &sets.get(&other).unwrap()));
        }
        let refused =
            vec![ToolSpec { parameters: json!({"type": 1}).as_object().unwrap().clone(), ..tools("x", 1)[0].clone() }];
        assert!(sets.get(&refused).is_err() && sets.get(&refused).is_err());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let sets = ToolSets::default();
        let first = sets.get(&tools("first", 10)).unwrap();
        for number in 0..SETS_MAX - 1 {
            sets.get(&tools(&format!("t{number}"), 10)).unwrap();
        }
        assert!(Arc::ptr_eq(&first, &sets.get(&tools("first", 10)).unwrap()), "it was used last");
        sets.get(&tools("another", 10)).unwrap();
        assert_eq!(sets.0.lock().len(), SETS_MAX);
        for number in 0..3 {
            sets.get(&tools(&format!("large{number}"), 400 * 1024)).unwrap();
        }
        let bytes: usize = sets.0.lock().iter().map(|set| set.bytes()).sum();
        assert!((400 * 1024..=BYTES_MAX).contains(&bytes), "{bytes}");
    }
}
