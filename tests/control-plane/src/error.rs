//! Why there is no control plane, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::START_LIMIT;

/// Why there is no control plane.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The binaries are nowhere, and there is no Go to build them.
    #[error(
        "no {names}: KUBEBUILDER_ASSETS is {assets}, {} does not have it, and go is not installed to build it. \
         Install Go 1.26 or later, or set KUBEBUILDER_ASSETS to a folder that holds etcd and kube-apiserver", .cache.display()
    )]
    NoBinaries {
        /// What is missing.
        names: String,
        /// The value of `KUBEBUILDER_ASSETS`.
        assets: String,
        /// The folder of the cache that was looked into.
        cache: PathBuf,
    },
    /// Go could not build the binaries.
    #[error("go build of {names} ended with {status}:\n{output}")]
    Build {
        /// What was to be built.
        names: String,
        /// How Go ended.
        status: ExitStatus,
        /// Its last lines.
        output: String,
    },
    /// A process ended by itself.
    #[error("{name} ended with {status}:\n{log}")]
    Ended {
        /// Which process.
        name: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines.
        log: String,
    },
    /// A process runs, but did not become ready in time.
    #[error("{name} was not ready after {} s:\n{log}", START_LIMIT.as_secs())]
    NotReady {
        /// Which process.
        name: &'static str,
        /// Its last lines.
        log: String,
    },
    /// There is no such user: [`crate::Options::users`] must name it.
    #[error("no user {0}: name it in Options::users")]
    UnknownUser(String),
    /// A file, a process or a port could not be used.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What went wrong.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Io { doing, source }
    }
}
