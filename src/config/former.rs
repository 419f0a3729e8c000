//! Names without effect: variables that similar programs read and this one does not, and slips in the names of settings.
//! An owner whose `.env` has one is told.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::fault::{NAME_SHOWN_MAX, Origin};
use crate::config::layers::Layers;

/// A variable of another program.
pub(super) struct Former {
    pub(super) name: &'static str,
    /// The advice: which setting to use instead.
    advice: &'static str,
    /// Whether it counts in the environment too. A shell or a platform may set the others there for itself.
    pub(super) in_environment: bool,
}

/// Each variable that has no effect here and that a `.env` of another program may hold. `docs/migrating.md` names them.
pub(super) const FORMER: &[Former] = &[
    of_dotenv("HOST", "SERVER_HOST is the address to listen at"),
    of_both("QWEN_OAUTH_DEVICE_AUTH_URL", "logins begin where QWEN_OAUTH_BASE_URL points"),
    of_both("ENABLE_TLS", "let a reverse proxy speak TLS"),
    of_dotenv("TLS_CERT_FILE", "let a reverse proxy speak TLS"),
    of_dotenv("TLS_KEY_FILE", "let a reverse proxy speak TLS"),
    of_dotenv("LOCAL_DEVELOPMENT", "there is one kind of state, in STATE_DIR"),
    of_dotenv("FAILED_ACCOUNTS", "accounts that rest are kept in STATE_DIR"),
    of_both("DEFAULT_ACCOUNT", "accounts take turns"),
];

/// One warning for each variable that is set and has no effect. `known` are the names of all settings.
pub(super) fn warnings(layers: &Layers, known: &[&str]) -> Vec<String> {
    let set = FORMER.iter().filter_map(|former| {
        let (origin, _) = layers.value(former.name, false)?;
        Some(format!("{} ({origin}) has no effect here: {}", former.name, former.advice))
    });
    set.chain(layers.names(Origin::DotEnv).filter_map(|name| slip(name, known))).collect()
}

/// The warning for a name of `.env` that is not a setting and looks like one. Such a file may serve several programs,
/// so other unknown names are ignored, and this is not a fault.
fn slip(name: &str, known: &[&str]) -> Option<String> {
    if known.contains(&name) || FORMER.iter().any(|former| former.name == name) {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    let nearest = known.iter().map(|known| (strsim::osa_distance(&upper, known), *known));
    let (distance, nearest) = nearest.min_by_key(|(distance, _)| *distance)?;
    // One letter in five, so that short names of other programs are left alone.
    let is_alike = distance <= SLIPS_MAX && distance * 5 <= nearest.len();
    let shown: String = name.chars().take(NAME_SHOWN_MAX).collect();
    is_alike.then(|| format!("{shown} (.env) is not a setting; did you mean {nearest}?"))
}

/// A warning when `TOKEN_REFRESH_BUFFER` looks like a number of milliseconds, which one program counted in.
pub(super) fn buffer_warning(buffer: Duration, origins: &BTreeMap<&'static str, Origin>) -> Option<String> {
    let origin = origins.get("TOKEN_REFRESH_BUFFER").filter(|_| buffer >= BUFFER_REMARKED)?;
    Some(format!(
        "TOKEN_REFRESH_BUFFER ({origin}) is {} seconds, since a bare number counts seconds; if milliseconds are meant, \
         write ms behind it",
        buffer.as_secs()
    ))
}

const fn of_dotenv(name: &'static str, advice: &'static str) -> Former {
    Former { name, advice, in_environment: false }
}

const fn of_both(name: &'static str, advice: &'static str) -> Former {
    Former { name, advice, in_environment: true }
}

/// A buffer from here on is remarked upon: five minutes are usual.
const BUFFER_REMARKED: Duration = Duration::from_secs(3600);
/// Most letters that may be wrong, missing, added or swapped in a name for it to look like a setting.
const SLIPS_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::UnixSeconds;
    use crate::config::{Config, Sources};

    fn warnings_of(env: &[(&str, &str)], dotenv: &str) -> Vec<String> {
        let mut sources = Sources::empty(UnixSeconds(1_800_000_000));
        sources.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        sources.dotenv = Some(dotenv.to_owned());
        Config::load(&sources).unwrap().warnings
    }

    #[test]
    fn variables_without_effect_are_named() {
        for former in FORMER {
            let warnings = warnings_of(&[], &format!("{}=x", former.name));
            assert_eq!(warnings, [format!("{} (.env) has no effect here: {}", former.name, former.advice)]);
            assert_eq!(warnings_of(&[], &format!("{}=", former.name)), Vec::<String>::new());
        }
        assert_eq!(
            warnings_of(&[("ENABLE_TLS", "true")], "FOREIGN=x"),
            ["ENABLE_TLS (environment) has no effect here: let a reverse proxy speak TLS"]
        );
    }

    #[test]
    fn a_buffer_in_milliseconds_is_remarked_upon() {
        for buffer in ["30000", "3600", "90m", "2h"] {
            let warnings = warnings_of(&[], &format!("TOKEN_REFRESH_BUFFER={buffer}"));
            assert!(warnings.len() == 1 && warnings[0].contains("write ms behind it"), "{buffer}: {warnings:?}");
        }
        for buffer in ["30000ms", "30s", "5m0s", "300", "0"] {
            let warnings = warnings_of(&[], &format!("TOKEN_REFRESH_BUFFER={buffer}"));
            assert_eq!(warnings, Vec::<String>::new(), "{buffer}");
        }
    }

    #[test]
    fn levels_of_other_loggers_are_read() {
        let filter = |level: &str| {
            let mut sources = Sources::empty(UnixSeconds(1_800_000_000));
            sources.dotenv = Some(format!("LOG_LEVEL={level}"));
            Config::load(&sources).unwrap().log.filter
        };
        assert_eq!(
            (filter("fatal").as_str(), filter("Warning").as_str(), filter("panic").as_str()),
            ("error", "warn", "error")
        );
    }
}
