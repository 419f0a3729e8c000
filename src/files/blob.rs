//! Bytes of a file on their way through the server: small ones in memory, large ones in a file without a name.
//!
//! A file is read from several places (its head for the type, all of it for each upload), so the bytes are kept
//! until the last handle goes. The file on disk was unlinked when it was made: neither a crash nor a kill leaves
//! anything behind.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// Most bytes that are kept in memory; more go to a file.
pub(crate) const MEMORY_BYTES_MAX: usize = 512 * 1024;

/// SHA-256 digest of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

/// Immutable bytes. Clones share them.
#[derive(Clone)]
pub struct Blob(Arc<Inner>);

struct Inner {
    len: u64,
    hash: ContentHash,
    content: Content,
}

enum Content {
    Memory(Bytes),
    File(File),
}

impl ContentHash {
    /// The 32 bytes of the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Blob {
    /// Number of bytes, in memory or in the file.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// SHA-256 of the bytes, which identifies them.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        self.0.hash
    }

    /// Reads from `offset` on; 0 only at the end. Reads of several readers do not disturb each other.
    ///
    /// # Errors
    /// Errors of the disk.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0.content {
            Content::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let rest = bytes.get(start..).unwrap_or_default();
                let count = rest.len().min(buffer.len());
                for (to, from) in buffer.iter_mut().zip(rest) {
                    *to = *from;
                }
                Ok(count)
            }
            Content::File(file) => file.read_at(buffer, offset),
        }
    }

    /// Up to `max` bytes from the beginning.
    ///
    /// # Errors
    /// Errors of the disk.
    pub fn head(&self, max: usize) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        self.reader().take(max as u64).read_to_end(&mut head)?;
        Ok(head)
    }

    /// The bytes; `None` if they are in a file.
    #[must_use]
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.0.content {
            Content::Memory(bytes) => Some(bytes),
            Content::File(_) => None,
        }
    }

    /// A reader of its own, at the beginning.
    #[must_use]
    pub fn reader(&self) -> BlobReader {
        BlobReader { blob: self.clone(), at: 0 }
    }
}

impl From<Vec<u8>> for Blob {
    /// A blob in memory, of any size.
    fn from(bytes: Vec<u8>) -> Self {
        let hash = ContentHash(Sha256::digest(&bytes).into());
        Self(Arc::new(Inner { len: bytes.len() as u64, hash, content: Content::Memory(bytes.into()) }))
    }
}

impl fmt::Debug for Blob {
    /// Shows the size only: the content is private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len)
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        self.0.hash == other.0.hash
    }
}

impl Eq for Blob {}

/// Reads a blob from its beginning.
#[derive(Debug)]
pub struct BlobReader {
    blob: Blob,
    at: u64,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.blob.read_at(self.at, buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.blob.len().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// Collects the bytes of a blob.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    dir: PathBuf,
    hasher: Sha256,
    len: u64,
    memory: Vec<u8>,
    file: Option<File>,
}

impl BlobWriter {
    /// A writer that puts large content into a nameless file in `dir`.
    #[must_use]
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), hasher: Sha256::new(), len: 0, memory: Vec::new(), file: None }
    }

    /// Takes the next bytes. Waits for the disk when there are many.
    ///
    /// # Errors
    /// Errors of the disk.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        if let Some(file) = &mut self.file {
            return file.write_all(bytes);
        }
        self.memory.extend_from_slice(bytes);
        if self.memory.len() > MEMORY_BYTES_MAX {
            let mut file = tempfile::tempfile_in(&self.dir)?;
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        Ok(())
    }

    /// Returns the collected bytes as a blob.
    #[must_use]
    pub(crate) fn finish(self) -> Blob {
        let content = match self.file {
            Some(file) => Content::File(file),
            None => Content::Memory(self.memory.into()),
        };
        Blob(Arc::new(Inner { len: self.len, hash: ContentHash(self.hasher.finalize().into()), content }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_read_alike() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 1, MEMORY_BYTES_MAX, MEMORY_BYTES_MAX + 1, 3 * MEMORY_BYTES_MAX] {
            let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut writer = BlobWriter::new(dir.path());
            bytes.chunks(100_000).for_each(|chunk| writer.push(chunk).unwrap());
            let blob = writer.finish();
            assert_eq!(blob.len(), len as u64);
            assert_eq!(blob.in_memory().is_some(), len <= MEMORY_BYTES_MAX);
            assert_eq!(blob, Blob::from(bytes.clone()));
            let mut read = Vec::new();
            blob.reader().read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{len}");
            assert_eq!(blob.head(7).unwrap(), &bytes[..7.min(len)]);
            let mut tail = blob.reader();
            tail.seek(SeekFrom::End(-i64::try_from(3.min(len)).unwrap())).unwrap();
            let mut read = Vec::new();
            tail.read_to_end(&mut read).unwrap();
            assert_eq!(read, &bytes[len - 3.min(len)..]);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing with a name is left");
    }

    #[test]
    fn seeking_before_the_beginning_is_an_error() {
        let mut reader = Blob::from(vec![1, 2, 3]).reader();
        assert!(reader.seek(SeekFrom::Current(-1)).is_err());
        assert_eq!(reader.seek(SeekFrom::Start(9)).unwrap(), 9);
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
    }
}
