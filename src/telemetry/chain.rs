//! An error with its causes, in one line.

use std::error::Error;
use std::fmt;

/// Shows an error with its causes, `reading the file: permission denied`. A cause that its parent already repeats at
/// the end is left out.
#[derive(Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut below = self.0.source();
        // Chains are short; the bound ends a circular one.
        for _ in 0..CHAIN_LINKS_MAX {
            let Some(source) = below else { break };
            let text = source.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            below = source.source();
        }
        Ok(())
    }
}

impl fmt::Debug for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Most causes of an error that are shown.
const CHAIN_LINKS_MAX: usize = 16;
