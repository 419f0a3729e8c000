//! Faults of a configuration, all at once, without ever showing a secret.

use std::fmt;

/// All faults of a configuration.
#[derive(Debug)]
pub struct ConfigError {
    /// The faults in the order of their checks; at least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.len() {
            1 => write!(f, "1 fault in the configuration:")?,
            count => write!(f, "{count} faults in the configuration:")?,
        }
        for fault in &self.faults {
            write!(f, "\n- {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One fault. Its texts never hold the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting, or the line of a file.
    pub key: String,
    /// Source of the value; `None` if the key names it already.
    pub origin: Option<Origin>,
    /// The fault, as the end of a sentence about the key.
    pub problem: String,
    /// The remedy, as a sentence.
    pub mend: String,
}

impl Fault {
    /// A fault at a place that needs no origin.
    pub(super) fn at(key: impl Into<String>, problem: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { key: key.into(), origin: None, problem: problem.into(), mend: mend.into() }
    }

    /// A fault of a value from a known source.
    pub(super) fn of(
        key: impl Into<String>,
        origin: Origin,
        problem: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { origin: Some(origin), ..Self::at(key, problem, mend) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(origin) = self.origin {
            write!(f, " ({origin})")?;
        }
        write!(f, ": {}; {}", self.problem, self.mend)
    }
}

/// Sources of values, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A flag on the command line.
    Flag,
    /// The owner's page, which keeps its values in the state.
    Page,
    /// The environment of the process.
    Environment,
    /// The file `.env` in the working folder.
    DotEnv,
    /// The file that `CONFIG_FILE` names.
    File,
    /// The value that holds when no layer has one.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Page => "page",
            Self::Environment => "environment",
            Self::DotEnv => ".env",
            Self::File => "config.json",
            Self::Default => "default",
        })
    }
}

/// The fault of a name that is not a setting.
pub(super) fn unknown(name: &str, known: &[&str], origin: Origin) -> Fault {
    let upper = name.to_ascii_uppercase();
    let nearest = known
        .iter()
        .map(|known| (strsim::jaro_winkler(&upper, known), *known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    // The name was written by a person, and a misplaced secret would be one too.
    let shown: String = name.chars().take(NAME_SHOWN_MAX).collect();
    Fault::of(
        format!("{shown:?}"),
        origin,
        "is not a setting",
        match nearest {
            Some((_, nearest)) => format!("did you mean {nearest}?"),
            None => "config.json.example lists all of them".to_owned(),
        },
    )
}

/// Most characters of an unknown name that are repeated.
pub(super) const NAME_SHOWN_MAX: usize = 40;
