//! A state folder that cannot be used: the reason, and the command that mends it.

use std::error::Error as _;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::store::disk::condition::StorageFault;
use crate::store::disk::files;
use crate::store::error::StoreError;
use crate::telemetry::ErrorChain;

/// The reason why the state is kept in memory. Its text is the warning for the owner: the folder, the user of this
/// process, the cause and the cure.
#[derive(Debug)]
pub struct Unusable {
    pub(crate) folder: PathBuf,
    pub(crate) uid: u32,
    /// The path that was refused: the state file, the folder, or the nearest existing folder above it.
    pub(crate) refused: PathBuf,
    pub(crate) owner: Option<u32>,
    pub(crate) fault: StorageFault,
    pub(crate) error: StoreError,
}

impl Unusable {
    /// Looks at the folder that gave this error.
    pub(crate) fn of(folder: &Path, error: StoreError) -> Self {
        let absolute = std::path::absolute(folder);
        let folder = absolute.as_deref().unwrap_or(folder);
        let fault = match &error {
            StoreError::Folder { source, .. } | StoreError::Thread(source) => StorageFault::of_io(source),
            StoreError::Open { source, .. } | StoreError::Write(source) | StoreError::Read(source) => {
                StorageFault::of_sqlite(source).unwrap_or(StorageFault::Io)
            }
            StoreError::Fresh { .. } | StoreError::Closed => StorageFault::Io,
        };
        let refused = refused(folder);
        let owner = fs::metadata(&refused).ok().map(|found| found.uid());
        Self { folder: folder.to_owned(), uid: rustix::process::geteuid().as_raw(), refused, owner, fault, error }
    }

    /// The kind of the cause.
    pub(crate) fn fault(&self) -> StorageFault {
        self.fault
    }

    fn cure(&self) -> String {
        let Self { folder, uid, refused, owner, fault, .. } = self;
        let (folder, shown) = (folder.display(), refused.display());
        match fault {
            StorageFault::Permission if !self.folder.starts_with(refused) => match owner {
                Some(owner) if owner == uid => format!("`chmod u+rw {shown}` mends it"),
                _ => format!("`chown {uid} {shown}` mends it"),
            },
            StorageFault::Permission if self.folder != *refused => {
                format!("`mkdir -p {folder} && chown {uid} {folder}` mends it")
            }
            StorageFault::Permission => match owner {
                Some(owner) if owner == uid => format!("`chmod u+rwx {folder}` mends it"),
                _ => format!("`chown {uid} {folder}` mends it"),
            },
            StorageFault::ReadOnly => {
                format!("its file system is mounted read-only: mount a volume there that uid {uid} can write")
            }
            StorageFault::Full => "the disk or the quota is full: make room".to_owned(),
            StorageFault::NotAFolder => format!("{shown} is a file: move it away, or set STATE_DIR to a folder"),
            StorageFault::Locked => {
                "another process holds the state file: give each server a folder of its own".to_owned()
            }
            StorageFault::Io => format!("set STATE_DIR to a folder that uid {uid} can write"),
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, uid, cure) = (self.folder.display(), self.uid, self.cure());
        write!(f, "the state folder {folder} (STATE_DIR) cannot be used by this process, which runs as uid {uid}")?;
        if let Some(owner) = self.owner {
            write!(f, "; {} belongs to uid {owner}", self.refused.display())?;
        }
        // The folder is named already.
        let cause = self.error.source().unwrap_or(&self.error);
        write!(
            f,
            "; {cure}, then start again. Until then everything is kept in memory, and renewed sessions and a generated \
             key are lost with the process. Cause: {}",
            ErrorChain(cause)
        )
    }
}

/// The path at which the system refuses: the state file when that exists and cannot be written, else the folder, else
/// the nearest path above it that exists.
fn refused(folder: &Path) -> PathBuf {
    let file = folder.join(files::STATE_FILE);
    let opened = fs::OpenOptions::new().write(true).open(&file);
    if opened.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) && file.exists() {
        return file;
    }
    let found = folder.ancestors().find(|path| path.exists());
    found.unwrap_or(folder).to_owned()
}
