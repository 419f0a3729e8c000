//! The state folder and its file on the disk: made private, kept private, and put aside when damaged.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::store::disk::fault::Fault;

/// Makes the folder when it is missing (0700), tightens it when others can enter it, and returns its real path.
///
/// A folder that cannot be tightened because it is another user's (a mounted volume), or that must not be because it
/// holds other things too (`STATE_DIR=/tmp`, `STATE_DIR=.`), is used as it is, with a warning: the file is private.
pub(crate) fn prepare_folder(dir: &Path) -> io::Result<PathBuf> {
    make_folder(dir)?;
    let dir = fs::canonicalize(dir)?;
    if holds_only_ours(&dir)? {
        tighten(&dir, FOLDER_MODE)?;
    } else if is_loose(&dir)? {
        warn!(path = %dir.display(), "others can enter the state folder, which holds other things too");
    }
    Ok(dir)
}

fn holds_only_ours(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let is_ours = |ours: &&str| name.to_str().is_some_and(|name| name.starts_with(*ours));
        if !OURS.iter().any(is_ours) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the file when it is missing (0600 from the first moment), tightens it when others can read it, and refuses
/// what is not a plain file. SQLite gives its side files (`-wal`, `-shm`) the mode of the file.
pub(crate) fn prepare_file(path: &Path) -> Result<(), Fault> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(Fault::Content("it is not a plain file".to_owned()));
        }
        Ok(_) => tighten(path, FILE_MODE)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    // Also says early and plainly that the folder is read-only.
    private_file_options().open(path)?;
    Ok(())
}

/// Renames a file to the next free `….broken-N` and removes the earlier ones, and the side files, which hold nothing
/// without it. Links are renamed, not followed.
pub(crate) fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let prefix = format!("{name}.broken-");
    let mut earlier = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<u64>().ok());
        if let Some(number) = number {
            earlier.push((number, entry.path()));
        }
    }
    let last = earlier.iter().map(|(number, _)| *number).max().unwrap_or(0);
    let aside = dir.join(format!("{prefix}{}", last.saturating_add(1)));
    fs::rename(path, &aside)?;
    for side in ["-wal", "-shm", "-journal"] {
        let mut side_path = OsString::from(path);
        side_path.push(side);
        remove(Path::new(&side_path));
    }
    for (_, path) in earlier {
        remove(&path);
    }
    Ok(aside)
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), %error, "an old file could not be removed");
        }
        _ => {}
    }
}

#[cfg(unix)]
fn make_folder(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;

    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(dir)
}

#[cfg(not(unix))]
fn make_folder(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

#[cfg(unix)]
fn private_file_options() -> fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(FILE_MODE);
    options
}

#[cfg(not(unix))]
fn private_file_options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    options
}

/// Takes from others what `mode` does not grant them.
#[cfg(unix)]
fn tighten(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    if !is_loose(path)? {
        return Ok(());
    }
    let found = fs::metadata(path)?.permissions().mode() & 0o777;
    let path_shown = path.display();
    match fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
        Ok(()) => {
            warn!(path = %path_shown, mode = %format_args!("{found:03o}"), "others could read the state; its mode was tightened");
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            warn!(path = %path_shown, mode = %format_args!("{found:03o}"), "others can read the state, and its mode cannot be tightened");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

#[cfg(unix)]
fn is_loose(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;

    Ok(fs::metadata(path)?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same face as on Unix")]
fn is_loose(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same face as on Unix")]
fn tighten(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// The name of the state file in the state folder.
pub(crate) const STATE_FILE: &str = "state.db";
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Prefixes of names that may stand in a folder of this program's own, configuration and the root of a mounted disk
/// included.
const OURS: &[&str] = &["state.db", "cookie.txt", "config.json", ".env", "lost+found"];
