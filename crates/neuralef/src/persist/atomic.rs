//! Atomic replacement of a file: written beside its target, flushed to disk, then renamed over it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// A file that appears under its name only when [`commit`](AtomicFile::commit) succeeds.
///
/// Dropped before that, it leaves nothing behind and an older file of the same name as it was.
#[derive(Debug)]
pub struct AtomicFile {
    writer: BufWriter<NamedTempFile>,
    /// What the user wrote, for messages.
    path: PathBuf,
    /// Where the file goes: `path` with symbolic links followed.
    target: PathBuf,
}

impl AtomicFile {
    /// Opens a temporary file in the directory of `path`.
    ///
    /// # Errors
    /// [`Error::Io`] naming `path` when its directory is missing or not writable, or when `path`
    /// exists and is read-only, a directory, a device or a pipe.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let fail = |e| Error::io(&path, e);
        let target = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        let existing = match fs::metadata(&target) {
            Ok(metadata) => Some(metadata),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(fail(e)),
        };
        if let Some(metadata) = &existing {
            if metadata.is_dir() {
                return Err(fail(io::ErrorKind::IsADirectory.into()));
            }
            if !metadata.is_file() {
                return Err(fail(io::Error::other("exists and is not a regular file")));
            }
            if metadata.permissions().readonly() {
                return Err(fail(io::ErrorKind::PermissionDenied.into()));
            }
        }
        if target.file_name().is_none() {
            return Err(fail(io::ErrorKind::InvalidFilename.into()));
        }
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".neuralef-").suffix(".tmp");
        #[cfg(unix)]
        {
            // As an ordinary new file would get it: the process's umask takes its part away.
            use std::os::unix::fs::PermissionsExt as _;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(directory).map_err(fail)?;
        if let Some(metadata) = existing {
            file.as_file().set_permissions(metadata.permissions()).map_err(fail)?;
        }
        Ok(AtomicFile { writer: BufWriter::with_capacity(1 << 16, file), path, target })
    }

    /// The path as the user wrote it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Flushes to disk and renames over the target.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path; nothing is left behind then.
    pub fn commit(self) -> Result<()> {
        let AtomicFile { writer, path, target } = self;
        let fail = |e| Error::io(&path, e);
        let file = writer.into_inner().map_err(|e| fail(e.into_error()))?;
        file.as_file().sync_all().map_err(fail)?;
        file.persist(&target).map_err(|e| fail(e.error))?;
        // The name itself must survive a crash too. Not every file system lets a directory be
        // synced, and the file is complete either way, so a refusal here is no failure.
        if let Some(Ok(directory)) = target.parent().map(File::open) {
            let _ = directory.sync_all();
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.writer.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn replaces_only_on_commit_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bin");
        fs::write(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        file.flush().unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["x.bin"]);

        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["x.bin"]);
    }

    #[test]
    fn refuses_what_it_must_not_replace() {
        let dir = tempfile::tempdir().unwrap();
        let readonly = dir.path().join("readonly");
        fs::write(&readonly, b"old").unwrap();
        let mut permissions = fs::metadata(&readonly).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&readonly, permissions).unwrap();
        for path in [dir.path().to_path_buf(), dir.path().join("missing/x"), readonly.clone()] {
            let error = AtomicFile::create(&path).unwrap_err();
            assert!(matches!(&error, Error::Io { path: p, .. } if *p == path), "{error}");
        }
        assert!(AtomicFile::create("").is_err());
        assert_eq!(fs::read(&readonly).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["readonly"]);
    }

    #[cfg(unix)]
    #[test]
    fn keeps_links_permissions_and_devices() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        let link = dir.path().join("link");
        fs::write(&real, b"old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut file = AtomicFile::create(&link).unwrap();
        file.write_all(b"new").unwrap();
        file.commit().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(AtomicFile::create("/dev/null").is_err());
    }
}
