//! A point at which exchanges wait, and what is decided about them.
#![expect(clippy::unwrap_used, reason = "a broken test tool fails its test")]

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use tokio::sync::watch;

use super::{Exchange, Moment};

/// The exchange, and all until it.
pub type Predicate = Box<dyn Fn(&Exchange, &[Exchange]) -> bool + Send + Sync>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Once,
    Each,
    Late,
}

pub struct Stop {
    pub moment: Moment,
    pub kind: Kind,
    pub matches: Predicate,
    pub reached: watch::Sender<Vec<Exchange>>,
    pub verdict: watch::Sender<Verdict>,
}

impl Stop {
    /// Waits for a verdict and does what it says.
    pub async fn judge(&self) -> Result<(), Ending> {
        let mut verdicts = self.verdict.subscribe();
        let verdict = verdicts.wait_for(|verdict| !matches!(verdict, Verdict::Wait)).await.unwrap().clone();
        match verdict {
            Verdict::Wait | Verdict::Go => Ok(()),
            Verdict::Drop => Err(Ending::Drop),
            Verdict::Answer(status, content_type, body) => {
                let body = Full::new(body).map_err(|never| match never {}).boxed();
                let answer = Response::builder().status(status).header(CONTENT_TYPE, content_type).body(body);
                Err(Ending::Answer(answer.unwrap()))
            }
        }
    }
}

#[derive(Clone)]
pub enum Verdict {
    Wait,
    Go,
    Drop,
    Answer(StatusCode, &'static str, Bytes),
}

/// How an exchange ends before its time.
pub enum Ending {
    Drop,
    Answer(Response<BoxBody<Bytes, hyper::Error>>),
    /// Not at all, but it waits on without its caller.
    Late(Arc<Stop>),
}
