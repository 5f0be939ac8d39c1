//! A copy of the sources, in which one text at a time is replaced.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::guards::Guard;

/// The copy.
pub struct Tree {
    folder: PathBuf,
}

impl Tree {
    /// Copies all that Git knows of below `root`, as it lies there now.
    ///
    /// The files are new to cargo: nothing that an earlier run built from a changed copy can pass for theirs.
    pub fn copy(root: &Path, folder: &Path) -> Result<Self, Failure> {
        let listed = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output()?;
        if !listed.status.success() {
            return Err(format!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr)).into());
        }
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        for name in String::from_utf8(listed.stdout)?.split_terminator('\0') {
            let (from, to) = (root.join(name), folder.join(name));
            if let (true, Some(parent)) = (from.is_file(), to.parent()) {
                fs::create_dir_all(parent)?;
                fs::write(&to, fs::read(&from)?)?;
            }
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes `guard` out until the result is dropped.
    pub fn without(&self, guard: &Guard) -> Result<Changed, Failure> {
        let file = self.folder.join(&guard.file);
        let original = fs::read_to_string(&file)?;
        fs::write(&file, original.replacen(&guard.text, &guard.replacement, 1))?;
        Ok(Changed { file, original })
    }
}

/// A changed file. Dropped, it is as before.
pub struct Changed {
    file: PathBuf,
    original: String,
}

impl Drop for Changed {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.file, &self.original) {
            eprintln!("mutate: cannot undo the change of {}: {error}", self.file.display());
        }
    }
}
