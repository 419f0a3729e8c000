//! A file that holds some blocks of the disk. When the disk is full it is removed, so that the newest credentials can
//! still be written; it is made again when there is room.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tracing::{debug, warn};

/// The reserve of one state folder.
pub(crate) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The name of the file in the state folder.
    pub(crate) const FILE_NAME: &str = "state.db.reserve";
    /// Its size. Credentials of a hundred accounts take less, since they are written over the earlier ones.
    pub(crate) const BYTES: u64 = 1 << 20;

    /// The reserve in this folder, which may not be there yet.
    pub(crate) fn in_folder(dir: &Path) -> Self {
        Self { path: dir.join(Self::FILE_NAME) }
    }

    /// Makes the file unless it is there; whether it is there now. Leaves a disk alone that would be full afterwards.
    pub(crate) fn make(&self) -> bool {
        if self.is_whole() {
            return true;
        }
        self.release();
        let made = self.has_room().and_then(|has_room| {
            if has_room { self.write(Self::BYTES) } else { Err(io::ErrorKind::StorageFull.into()) }
        });
        if let Err(error) = &made {
            self.release();
            debug!(path = %self.path.display(), %error, "no reserve of disk space could be made");
        }
        made.is_ok()
    }

    /// Gives the blocks back to the disk.
    pub(crate) fn release(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(path = %self.path.display(), %error, "the reserve of disk space could not be removed");
            }
            _ => {}
        }
    }

    /// Writes a little beside the state file and removes it again: the error says what SQLite does not tell.
    pub(crate) fn probe(&self) -> io::Result<()> {
        self.release();
        let written = self.write(PROBE_BYTES);
        self.release();
        written
    }

    fn is_whole(&self) -> bool {
        // The unit of `blocks` is 512 bytes on every system.
        let holds_blocks = |found: &fs::Metadata| found.blocks().saturating_mul(512) >= Self::BYTES;
        fs::symlink_metadata(&self.path).is_ok_and(|found| {
            found.is_file() && found.len() == Self::BYTES && found.mode() & 0o077 == 0 && holds_blocks(&found)
        })
    }

    fn has_room(&self) -> io::Result<bool> {
        let disk = rustix::fs::statvfs(self.path.parent().unwrap_or(&self.path))?;
        // As much again stays free for the facts that wait.
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize) >= 2 * Self::BYTES)
    }

    /// Random bytes, so that no file system saves itself the blocks.
    fn write(&self, bytes_total: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)?;
        let mut bytes = vec![0; usize::try_from(PROBE_BYTES).unwrap_or_default()];
        for _ in 0..bytes_total / PROBE_BYTES {
            fastrand::fill(&mut bytes);
            file.write_all(&bytes)?;
        }
        Ok(())
    }
}

/// Enough to need blocks of its own on every file system; a divisor of [`Reserve::BYTES`].
const PROBE_BYTES: u64 = 32 << 10;
