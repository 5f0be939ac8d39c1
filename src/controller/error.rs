//! What can fail in a pass besides the cloud: the Kubernetes API.

use std::time::Duration;

/// Why a pass could not see or write what it had to. Whatever else is wrong is a value, and reaches status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request to the Kubernetes API failed. Boxed: kube's error is large.
    #[error("{doing}: {}", short(source))]
    Kube {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// A CRD lacks fields that this operator writes; says which.
    #[error("the CRD {0}: apply the CRDs of this version")]
    OldCrd(String),
}

impl Error {
    /// For `map_err`: says what was being done.
    pub fn kube(doing: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Kube { doing, source: Box::new(source) }
    }

    /// Somebody else wrote the object first: news, not a failure.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Kube { source, .. } if matches!(&**source, kube::Error::Api(status) if status.is_conflict()))
    }

    /// The object is gone.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Kube { source, .. } if matches!(&**source, kube::Error::Api(status) if status.is_not_found()))
    }
}

/// Longer than the client waits for the head of an answer.
const WHOLE_ANSWER: Duration = Duration::from_secs(35);

/// An answer with its whole body in time: the client's own timeouts are for the head, and for the next bytes of a body.
///
/// # Errors
/// Those of the client; what was asked for may have been done all the same.
pub fn whole<T>(answer: impl Future<Output = kube::Result<T>>) -> impl Future<Output = kube::Result<T>> {
    let answer = tokio::time::timeout(WHOLE_ANSWER, Box::pin(answer));
    let late = |_| Err(kube::Error::Service("the answer of the API server was not whole after 35 s".into()));
    async move { answer.await.unwrap_or_else(late) }
}

/// One line; kube's own text of an API error is the whole `Status` object.
#[must_use]
pub fn short(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    chain(error)
}

/// The error and its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text.chars().take(500).collect::<String>().replace('\n', " ")
}
