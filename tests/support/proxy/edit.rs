//! A streamed answer, line by line: what comes in the place of each.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Bytes, Frame};

/// What becomes of a line.
#[derive(Clone, Debug)]
pub enum Edited {
    /// These lines come in its place, each with its end.
    Lines(Vec<Bytes>),
    /// These, and then the answer ends, as one that is whole.
    Last(Vec<Bytes>),
}

impl Edited {
    /// The line as it is.
    pub fn kept(line: &[u8]) -> Self {
        Self::Lines(vec![Bytes::copy_from_slice(line)])
    }
}

type Edit = Box<dyn FnMut(&[u8]) -> Edited + Send + Sync>;

/// The body of an answer, edited.
pub struct Lines {
    body: BoxBody<Bytes, hyper::Error>,
    edit: Edit,
    rest: Vec<u8>,
    ready: VecDeque<Bytes>,
    over: bool,
}

impl Lines {
    /// Each whole line of `body` as `edit` wants it. What is no whole line at the end comes as it is.
    pub fn new(body: BoxBody<Bytes, hyper::Error>, edit: impl FnMut(&[u8]) -> Edited + Send + Sync + 'static) -> Self {
        Self { body, edit: Box::new(edit), rest: Vec::new(), ready: VecDeque::new(), over: false }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            match (self.edit)(&line) {
                Edited::Lines(lines) => self.ready.extend(lines),
                Edited::Last(lines) => {
                    self.ready.extend(lines);
                    self.over = true;
                    return;
                }
            }
        }
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(line))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.take(&bytes);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.over = true;
                    let rest = std::mem::take(&mut self.rest);
                    self.ready.extend((!rest.is_empty()).then(|| rest.into()));
                }
            }
        }
    }
}
