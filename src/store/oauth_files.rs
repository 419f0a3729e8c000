//! OAuth credentials in files that other programs use too: `oauth_creds.json` of the official command line, and
//! `oauth_creds_<id>.json` beside it.
//!
//! A file is replaced whole or not at all, readable for its owner only, under the lock of the official command line.
//! Writes of other programs in the meantime, with or without that lock, are never overwritten.
//!
//! This is one long file because reading, locking and replacing keep one promise together: each step rests on how the
//! others leave the folder.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::ExposeSecret as _;
use tracing::warn;
use uuid::Uuid;

use crate::base::ids::{CredentialKey, UnixSeconds};
use crate::base::oauth::{AccountId, CredentialsError, OAuthCredentials};

/// One folder with credentials. Clones mean the same folder.
#[derive(Clone, Debug)]
pub(crate) struct OAuthFiles {
    dir: Arc<Path>,
    /// Whether `oauth_creds.json` alone may be used.
    is_only_unnamed: bool,
}

/// The credentials of one file.
#[derive(Clone, Debug)]
pub(crate) struct OAuthFile {
    /// The credentials in the file.
    pub credentials: OAuthCredentials,
    /// Version of the file, by which a change is noticed.
    pub stamp: FileStamp,
    /// Hash of the whole text.
    pub text_key: CredentialKey,
}

/// Metadata that tell one version of a file from the next without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

/// The outcome of replacing an earlier version.
#[derive(Debug)]
pub(crate) enum Replaced {
    /// The new credentials are in the file.
    Done(FileStamp),
    /// Another program had written another login, which stays.
    Superseded(Box<OAuthFile>),
}

/// Errors of a credentials file. They hold its path and no content.
#[derive(Debug, thiserror::Error)]
pub enum OAuthFileError {
    /// There is no such file.
    #[error("{0} is not there")]
    Missing(PathBuf),
    /// The operating system refuses an access.
    #[error("{path} cannot be {doing}{}", hint(source))]
    Io {
        /// The file that was accessed.
        path: PathBuf,
        /// The action that failed: `read`, `written`, `locked`, …
        doing: &'static str,
        source: io::Error,
    },
    /// A folder, a pipe, or a file above the size limit.
    #[error("{0} is not a file of OAuth credentials")]
    NotAFile(PathBuf),
    /// The content is not credentials, or is incomplete.
    #[error("{path} cannot be used")]
    Content {
        /// The file that was read.
        path: PathBuf,
        /// The fault of the content.
        source: CredentialsError,
    },
    /// Another program holds the lock and does not release it.
    #[error("{0} is locked by another program")]
    Locked(PathBuf),
}

impl OAuthFiles {
    /// The folder of this server's own files, `QWEN_DIR`.
    #[must_use]
    pub(crate) fn all_in(dir: &Path) -> Self {
        Self { dir: dir.into(), is_only_unnamed: false }
    }

    /// The folder of the official command line, in which one file is looked at.
    #[must_use]
    pub(crate) fn unnamed_in(dir: &Path) -> Self {
        Self { dir: dir.into(), is_only_unnamed: true }
    }

    #[must_use]
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Path of an account's file.
    #[must_use]
    pub(crate) fn path_of(&self, account: &AccountId) -> PathBuf {
        self.dir.join(if account.is_unnamed() { UNNAMED.to_owned() } else { format!("{STEM}_{account}.json") })
    }

    /// The accounts that have a file, with the version of each. A missing folder has none.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) async fn scan(&self) -> Result<BTreeMap<AccountId, FileStamp>, OAuthFileError> {
        let files = self.clone();
        aside(move || files.scan_now()).await
    }

    /// Reads the credentials of an account.
    ///
    /// # Errors
    /// [`OAuthFileError`].
    pub(crate) async fn read(&self, account: &AccountId, now: UnixSeconds) -> Result<OAuthFile, OAuthFileError> {
        let path = self.path_of(account);
        aside(move || read_now(&path, now)).await
    }

    /// Writes credentials over any earlier ones, as after a login. Returns when they are on the disk.
    ///
    /// # Errors
    /// [`OAuthFileError::Io`].
    pub(crate) async fn write(
        &self,
        account: &AccountId,
        credentials: OAuthCredentials,
    ) -> Result<FileStamp, OAuthFileError> {
        let (dir, path) = (Arc::clone(&self.dir), self.path_of(account));
        aside(move || make_folder(&dir).map_err(|source| failed(&dir, "made", source))).await?;
        // A program that refreshes at this moment would overwrite the login. One that never releases its lock does not
        // keep an owner from logging in.
        let _lock = self.lock(account).await.ok();
        aside(move || {
            let path = real(&path);
            let temp = Temp::write(&path, &credentials)?;
            fs::rename(&temp.0, &path).map_err(|source| failed(&path, "written", source))?;
            sync_folder(&path);
            stamp_at(&path)
        })
        .await
    }

    /// Writes renewed credentials over those that they were made from; other ones are left alone. Returns when they are
    /// on the disk.
    ///
    /// # Errors
    /// [`OAuthFileError`]: the file is not there any more, holds something unreadable, or cannot be written.
    pub(crate) async fn replace(
        &self,
        account: &AccountId,
        old: OAuthCredentials,
        new: OAuthCredentials,
        now: UnixSeconds,
    ) -> Result<Replaced, OAuthFileError> {
        let path = self.path_of(account);
        aside(move || replace_now(&real(&path), &old, &new, now)).await
    }

    /// Deletes the credentials of an account; returns whether there were any.
    ///
    /// # Errors
    /// [`OAuthFileError::Io`].
    pub(crate) async fn remove(&self, account: &AccountId) -> Result<bool, OAuthFileError> {
        let path = self.path_of(account);
        aside(move || match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed(&path, "removed", source)),
        })
        .await
    }

    /// Takes the lock of an account's file, as the official command line does: waits 100 ms, then longer by half, at
    /// most 2 s, twenty times; a lock older than ten seconds is forgotten and taken away.
    ///
    /// # Errors
    /// Another program holds it all the time, or the folder cannot be written.
    pub(crate) async fn lock(&self, account: &AccountId) -> Result<OAuthLock, OAuthFileError> {
        let name = if account.is_unnamed() { format!("{STEM}.lock") } else { format!("{STEM}_{account}.lock") };
        let path = self.dir.join(name);
        let mut wait = LOCK_WAIT;
        for _ in 0..LOCK_ATTEMPTS {
            let at = path.clone();
            match aside(move || try_lock(&at)).await? {
                Attempt::Taken(lock) => return Ok(lock),
                // Tries again at once; a lock that always returns must not cause a busy loop.
                Attempt::WasStale => {}
                Attempt::Held => {
                    tokio::time::sleep(wait).await;
                    wait = wait.mul_f64(1.5).min(LOCK_WAIT_MAX);
                }
            }
        }
        Err(OAuthFileError::Locked(path))
    }

    fn scan_now(&self) -> Result<BTreeMap<AccountId, FileStamp>, OAuthFileError> {
        let mut found = BTreeMap::new();
        if self.is_only_unnamed {
            let account = AccountId::unnamed();
            match fs::metadata(self.path_of(&account)) {
                Ok(metadata) if metadata.is_file() => drop(found.insert(account, FileStamp::of(&metadata))),
                _ => {}
            }
            return Ok(found);
        }
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries.map_err(|source| failed(&self.dir, "read", source))?,
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(TEMP_STEM) {
                remove_leftover(&entry.path());
            }
            let Some(account) = account_of(name) else { continue };
            // Follows links: a folder of mounted secrets may consist of them.
            if let Ok(metadata) = fs::metadata(entry.path())
                && metadata.is_file()
                && found.len() < ACCOUNTS_MAX
            {
                found.insert(account, FileStamp::of(&metadata));
            }
        }
        Ok(found)
    }
}

/// The account whose credentials a file of this name holds.
fn account_of(name: &str) -> Option<AccountId> {
    if name == UNNAMED {
        return Some(AccountId::unnamed());
    }
    let id = name.strip_prefix(STEM)?.strip_prefix('_')?.strip_suffix(".json")?;
    // Two files for one account would overwrite each other's refresh tokens.
    AccountId::parse(id).ok().filter(|account| !account.is_unnamed())
}

fn read_now(path: &Path, now: UnixSeconds) -> Result<OAuthFile, OAuthFileError> {
    let io_failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => OAuthFileError::Missing(path.to_owned()),
        _ => failed(path, "read", source),
    };
    // Before opening: to open a pipe waits for its writer.
    if !fs::metadata(path).map_err(io_failed)?.is_file() {
        return Err(OAuthFileError::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(io_failed)?;
    let stamp = FileStamp::of(&file.metadata().map_err(io_failed)?);
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io_failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(OAuthFileError::NotAFile(path.to_owned()));
    }
    let text = String::from_utf8_lossy(&bytes);
    let content = |source| OAuthFileError::Content { path: path.to_owned(), source };
    let credentials = OAuthCredentials::parse(&text, now).map_err(content)?;
    Ok(OAuthFile { credentials, stamp, text_key: CredentialKey::of(&text) })
}

/// Reads a file that another program may be writing at this moment.
fn read_settled(path: &Path, now: UnixSeconds) -> Result<OAuthFile, OAuthFileError> {
    for _ in 0..SETTLE_ATTEMPTS {
        match read_now(path, now) {
            Err(OAuthFileError::Content { .. }) => pause(SETTLE_WAIT),
            read => return read,
        }
    }
    read_now(path, now)
}

fn replace_now(
    path: &Path,
    old: &OAuthCredentials,
    new: &OAuthCredentials,
    now: UnixSeconds,
) -> Result<Replaced, OAuthFileError> {
    let found = read_settled(path, now)?;
    if !found.credentials.is_same_login(old) {
        return Ok(Replaced::Superseded(Box::new(found)));
    }
    let temp = Temp::write(path, new)?;
    let missing = || OAuthFileError::Missing(path.to_owned());
    let write_failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => missing(),
        _ => failed(path, "written", source),
    };
    // A program that writes between the look and the replacement would lose its write. So the two files change places,
    // and the replaced one is looked at again. If it is not the expected one it goes back, and the file that this
    // replaces is looked at too, until nothing came in between.
    let mut superseding = None;
    let mut expected = (found.stamp.inode, Some(found.credentials));
    for _ in 0..EXCHANGES_MAX {
        let put = inode_at(&temp.0).map_err(write_failed)?;
        if !exchange(&temp.0, path).map_err(write_failed)? {
            fs::rename(&temp.0, path).map_err(write_failed)?;
            break;
        }
        let mut taken = read_settled(&temp.0, now);
        if is_what_was_to_be_replaced(&taken, &expected, &temp.0).map_err(write_failed)? {
            // An editor may have found the file before the exchange and write into it after: the first look came too
            // early for that. One that takes longer than this pause loses its write, and no lock of ours can prevent it.
            pause(SECOND_LOOK_AFTER);
            taken = read_settled(&temp.0, now);
            if is_what_was_to_be_replaced(&taken, &expected, &temp.0).map_err(write_failed)? {
                break;
            }
        }
        // The file now holds the content of `superseding`, or at first the new credentials.
        let now_there = match superseding.take() {
            None => Some(new.clone()),
            Some(Ok(OAuthFile { credentials, .. })) => Some(credentials),
            Some(Err(_)) => None,
        };
        expected = (put, now_there);
        superseding = Some(taken);
    }
    match superseding {
        Some(Ok(file)) => return Ok(Replaced::Superseded(Box::new(file))),
        Some(Err(OAuthFileError::Content { source, .. })) => {
            return Err(OAuthFileError::Content { path: path.to_owned(), source });
        }
        Some(Err(error)) => return Err(error),
        None => {}
    }
    sync_folder(path);
    stamp_at(path).map(Replaced::Done)
}

/// Whether the file at `temp`, taken away by an exchange, still has this inode and these credentials. If its
/// credentials are unknown, the inode alone decides.
fn is_what_was_to_be_replaced(
    taken: &Result<OAuthFile, OAuthFileError>,
    expected: &(u64, Option<OAuthCredentials>),
    temp: &Path,
) -> io::Result<bool> {
    match (taken, &expected.1) {
        (Ok(taken), Some(expected)) => Ok(taken.credentials.is_same_login(expected)),
        (Err(_), Some(_)) => Ok(false),
        (_, None) => Ok(inode_at(temp)? == expected.0),
    }
}

/// A file beside the one that it is to replace. Removed on drop, on every path.
struct Temp(PathBuf);

impl Temp {
    fn write(beside: &Path, credentials: &OAuthCredentials) -> Result<Self, OAuthFileError> {
        let temp = Self(beside.with_file_name(format!("{TEMP_STEM}{}.tmp", Uuid::new_v4().simple())));
        let written = private_new_file(&temp.0).and_then(|mut file| {
            file.write_all(credentials.to_json().expose_secret().as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        });
        written.map(|()| temp).map_err(|source| failed(beside, "written", source))
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = fs::remove_file(&self.0);
    }
}

/// The lock of one file. Released on drop, if it is still held.
#[derive(Debug)]
pub(crate) struct OAuthLock {
    path: PathBuf,
    content: String,
}

impl Drop for OAuthLock {
    fn drop(&mut self) {
        match fs::read_to_string(&self.path) {
            Ok(content) if content == self.content => {
                let _ = fs::remove_file(&self.path);
            }
            _ => warn!(path = %self.path.display(), "the lock was taken away meanwhile"),
        }
    }
}

enum Attempt {
    Taken(OAuthLock),
    WasStale,
    Held,
}

fn try_lock(path: &Path) -> Result<Attempt, OAuthFileError> {
    let lock_failed = |source| failed(path, "made, so the credentials beside it are left alone", source);
    match private_new_file(path) {
        Ok(mut file) => {
            let content = Uuid::new_v4().to_string();
            let lock = OAuthLock { path: path.to_owned(), content };
            file.write_all(lock.content.as_bytes()).map_err(lock_failed)?;
            return Ok(Attempt::Taken(lock));
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(lock_failed(source)),
    }
    let age = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let age = age.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    if age.is_none_or(|age| age <= LOCK_STALE_AFTER) {
        return Ok(Attempt::Held);
    }
    let seen = fs::read(path).unwrap_or_default();
    let aside = PathBuf::from(format!("{}.stale.{}", path.display(), Uuid::new_v4()));
    if fs::rename(path, &aside).is_err() {
        return Ok(Attempt::Held);
    }
    // Two programs may find the same stale lock: the later one may have taken away the fresh lock of the earlier one. It
    // goes back, unless a third has come meanwhile.
    let is_another = fs::read(&aside).unwrap_or_default() != seen;
    if is_another {
        let _ = fs::hard_link(&aside, path);
    }
    let _ = fs::remove_file(&aside);
    Ok(if is_another { Attempt::Held } else { Attempt::WasStale })
}

impl FileStamp {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;

        Self { modified: metadata.modified().ok(), len: metadata.len(), inode: metadata.ino() }
    }

    #[cfg(not(unix))]
    fn of(metadata: &Metadata) -> Self {
        Self { modified: metadata.modified().ok(), len: metadata.len(), inode: 0 }
    }
}

fn inode_at(path: &Path) -> io::Result<u64> {
    fs::metadata(path).map(|metadata| FileStamp::of(&metadata).inode)
}

fn stamp_at(path: &Path) -> Result<FileStamp, OAuthFileError> {
    fs::metadata(path).map(|metadata| FileStamp::of(&metadata)).map_err(|source| failed(path, "read", source))
}

/// The target of a link, so that the file is replaced and not the link.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Exchanges two files at once; `false` if the system cannot.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;

    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::NOSYS | Errno::INVAL | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
#[expect(clippy::unnecessary_wraps, reason = "the same face as on Linux")]
fn exchange(_one: &Path, _other: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Creates a file that must not exist yet, so that no link is followed; readable by its owner only from the first
/// moment.
fn private_new_file(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}

/// Makes the folder when it is missing. One that is there stays as it is: it may be another program's.
fn make_folder(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(dir)
}

/// Makes a rename outlive a power cut. Where a folder cannot be synced, the next sync of the disk does it.
fn sync_folder(path: &Path) {
    if let Some(dir) = path.parent()
        && let Ok(dir) = File::open(dir)
    {
        let _ = dir.sync_all();
    }
}

/// Removes the file of a process that was killed while it wrote.
fn remove_leftover(path: &Path) {
    let age = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let age = age.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    if age.is_some_and(|age| age > LEFTOVER_AGE) {
        let _ = fs::remove_file(path);
    }
}

#[expect(clippy::disallowed_methods, reason = "runs on a thread that may block")]
fn pause(length: Duration) {
    std::thread::sleep(length);
}

fn failed(path: &Path, doing: &'static str, source: io::Error) -> OAuthFileError {
    OAuthFileError::Io { path: path.to_owned(), doing, source }
}

/// Advice for the most common refusal.
fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => ": this user may not do that (check the owner of the file and the folder)",
        _ => "",
    }
}

/// Runs blocking work on a thread of its own.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OAuthFileError> + Send + 'static,
) -> Result<T, OAuthFileError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        // The work does not panic, so this is the end of the runtime.
        let source = io::Error::other(error.to_string());
        Err(OAuthFileError::Io { path: PathBuf::new(), doing: "reached", source })
    })
}

const STEM: &str = "oauth_creds";
const UNNAMED: &str = "oauth_creds.json";
const TEMP_STEM: &str = ".oauth_creds.";
/// Largest file that is read, in bytes; credentials are some two kilobytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Most files of one folder that are read.
const ACCOUNTS_MAX: usize = 256;
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_WAIT: Duration = Duration::from_millis(100);
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
const LOCK_STALE_AFTER: Duration = Duration::from_secs(10);
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);
/// Most changes of a file during one replacement.
const EXCHANGES_MAX: u32 = 100;
const SETTLE_ATTEMPTS: u32 = 10;
const SETTLE_WAIT: Duration = Duration::from_millis(50);
/// Longest time between another program's look at the file and its write.
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(20);
