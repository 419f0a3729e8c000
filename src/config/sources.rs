//! The sources of a configuration: the only place that reads the environment and the configuration files.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::ids::UnixSeconds;
use crate::base::text;
use crate::config::fault::{Fault, Origin};
use crate::config::former::FORMER;
use crate::config::layers::Layers;
use crate::config::settings::{CONFIG_FILE, COOKIE_FILE, SETTINGS, names};
use crate::config::values::{self, Value};

/// The texts that a configuration is made of. Holds secrets, so it shows nothing of itself.
#[derive(Clone)]
pub struct Sources {
    /// Settings from the command line, by name.
    pub flags: BTreeMap<String, String>,
    /// What the owner's page keeps in the state: a JSON object of values by the names of their settings.
    pub page: Option<String>,
    /// Settings from the environment, by name.
    pub env: BTreeMap<String, String>,
    /// The text of `.env`, if there is one.
    pub dotenv: Option<String>,
    /// The text of `config.json`, if there is one.
    pub file: Option<String>,
    /// The text of `cookie.txt`, if there is one.
    pub cookie_file: Option<String>,
    /// Variables of the environment about proxies, by name.
    pub proxies: BTreeMap<String, String>,
    /// The folder of the user, if the environment tells.
    pub home: Option<String>,
    /// Whether standard error is a terminal, which decides about the look of log lines.
    pub stderr_is_terminal: bool,
    /// The present moment, against which tokens are read.
    pub now: UnixSeconds,
    /// Files and variables that could not be read. [`crate::config::Config::load`] reports them with all other faults.
    pub faults: Vec<Fault>,
}

/// The variables of OpenTelemetry that this program reads itself; its library reads the others, such as headers.
const OTEL: [&str; 6] = [
    OTEL_ALL,
    OTEL_TRACES,
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
];
/// Endpoint of everything that OpenTelemetry sends, each kind to a path below it.
pub(super) const OTEL_ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Endpoint of traces, used unchanged.
pub(super) const OTEL_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

impl Sources {
    /// No text at all, at a given moment.
    #[must_use]
    pub fn empty(now: UnixSeconds) -> Self {
        Self {
            flags: BTreeMap::new(),
            page: None,
            env: BTreeMap::new(),
            dotenv: None,
            file: None,
            cookie_file: None,
            proxies: BTreeMap::new(),
            home: None,
            stderr_is_terminal: false,
            now,
            faults: Vec::new(),
        }
    }

    /// Reads the environment of this process, `.env` in the working folder, and the two files that `CONFIG_FILE` and
    /// `COOKIE_FILE` name. A missing file is a fault only when a setting names it.
    #[must_use]
    pub fn from_process(flags: BTreeMap<String, String>) -> Self {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut sources = Self {
            flags,
            stderr_is_terminal: io::stderr().is_terminal(),
            ..Self::empty(UnixSeconds(i64::try_from(seconds).unwrap_or(i64::MAX)))
        };
        let folder = |name| std::env::var_os(name)?.into_string().ok().filter(|home| !home.is_empty());
        sources.home = folder("HOME").or_else(|| folder("USERPROFILE"));
        let former = FORMER.iter().filter(|former| former.in_environment).map(|former| former.name);
        for name in names().into_iter().chain(former).chain(OTEL) {
            let Some(value) = std::env::var_os(name) else {
                continue;
            };
            match value.into_string() {
                Ok(text) => {
                    sources.env.insert(name.to_owned(), text);
                }
                Err(_) => sources.faults.push(Fault::of(
                    name,
                    Origin::Environment,
                    "is not UTF-8",
                    "set it again as plain text",
                )),
            }
        }
        for name in PROXIES.iter().chain(NO_PROXY) {
            if let Some(value) = std::env::var_os(name) {
                sources.proxies.insert((*name).to_owned(), value.to_string_lossy().into_owned());
            }
        }
        sources.dotenv = sources.read(".env", "the working folder", false);
        sources.file = sources.read_named(CONFIG_FILE);
        sources.cookie_file = sources.read_named(COOKIE_FILE);
        sources
    }

    /// Reads the file that a setting names, by what is known of the layers so far.
    fn read_named(&mut self, setting: &str) -> Option<String> {
        // Faults of the layers are found again, and then reported, when everything is loaded.
        let layers = self.layers(&mut Vec::new());
        let named = layers.value(setting, false).and_then(|(_, value)| match value {
            Value::Text(_) => values::text(value).ok().map(str::to_owned),
            Value::List(_) | Value::Table(_) => None,
        });
        let is_named = named.is_some();
        let default = SETTINGS.iter().find(|row| row.name == setting)?.default;
        let path = named.unwrap_or_else(|| default.to_owned());
        self.read(&path, setting, is_named)
    }

    fn read(&mut self, path: &str, named_by: &str, must_exist: bool) -> Option<String> {
        match read_text(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => None,
            Err(error) => {
                let mend = match named_by {
                    _ if error.kind() == io::ErrorKind::FileTooLarge => {
                        format!(
                            "it may have {} MiB; keep only the settings or Cookie headers in it",
                            FILE_BYTES_MAX >> 20
                        )
                    }
                    CONFIG_FILE | COOKIE_FILE => {
                        format!("make it a readable text file, or name another one in {named_by}")
                    }
                    _ => format!("make it a readable text file, or remove it from {named_by}"),
                };
                self.faults.push(Fault::at(path, format!("cannot be read ({})", error.kind()), mend));
                None
            }
        }
    }

    /// The layers of these sources.
    pub(super) fn layers(&self, faults: &mut Vec<Fault>) -> Layers {
        Layers::read(
            &self.flags,
            self.page.as_deref(),
            &self.env,
            self.dotenv.as_deref(),
            self.file.as_deref(),
            &names(),
            faults,
        )
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

fn read_text(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    text::decoded(bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Variables that name a proxy. The HTTP clients read them from the environment by themselves.
pub(super) const PROXIES: &[&str] =
    &["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// Variables that name what needs no proxy. The first that is set counts.
pub(super) const NO_PROXY: &[&str] = &["NO_PROXY", "no_proxy"];
/// The longest configuration file: some sixty cookies of the longest kind.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
