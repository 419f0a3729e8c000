//! Watches the folders of the files that settings come from, since editors and Kubernetes put a new file in the place of
//! the old one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tracing::warn;

/// These files, and for each that is a link, or lies behind one, also the file that it leads to.
pub(crate) fn with_targets(files: &[PathBuf]) -> Vec<PathBuf> {
    let targets = files.iter().filter_map(|file| {
        let (here, target) = (std::path::absolute(file).ok()?, file.canonicalize().ok()?);
        (here != target).then_some(target)
    });
    let mut all: Vec<PathBuf> = files.iter().cloned().chain(targets).collect();
    all.sort();
    all.dedup();
    all
}

/// Watches the folders of these files; `None` where that cannot be done, which is said.
pub(crate) fn watch(files: &[PathBuf], changed: Arc<Notify>) -> Option<RecommendedWatcher> {
    let names: Vec<_> = files.iter().filter_map(|file| file.file_name().map(ToOwned::to_owned)).collect();
    let is_meant = move |path: &PathBuf| {
        let name = path.file_name();
        // Kubernetes swaps a link of this name beside the files.
        name.is_some_and(|name| names.iter().any(|known| known == name) || name == "..data")
    };
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if let Ok(event) = event
            && is_change(event.kind)
            && event.paths.iter().any(&is_meant)
        {
            changed.notify_one();
        }
    });
    let watching = watcher.and_then(|mut watcher| {
        let mut folders: Vec<PathBuf> = files.iter().map(|file| folder_of(file)).collect();
        folders.sort();
        folders.dedup();
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    });
    watching.inspect_err(|error| warn!(%error, "files of settings are not watched; SIGHUP reloads them")).ok()
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Reading a file is not a change of it.
fn is_change(kind: EventKind) -> bool {
    !kind.is_access() || kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}
