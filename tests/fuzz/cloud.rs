//! A cloud that answers with given bytes, and keeps what was sent.

use std::sync::{Arc, Mutex};

use dijob_operator::dataworks::model::{DiJob, StartDiJobAnswer, StartDiJobRequest};
use dijob_operator::dataworks::transport::Sending;
use dijob_operator::dataworks::{AccessKey, Client, Endpoint, Reply, Scheme, Service, Stamp, Transport, Version};
use http::header::{HeaderName, HeaderValue};

/// Gives the same answer to all.
#[derive(Debug, Default)]
pub struct Canned {
    answer: Answer,
    /// What was sent.
    pub seen: Mutex<Vec<http::Request<Vec<u8>>>>,
}

/// An answer as its file has it: a line with the status, lines with headers, an empty line, the body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status, 100 to 999.
    pub status: u16,
    /// Headers that HTTP allows, in their order.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Default for Answer {
    fn default() -> Self {
        Self::read(b"200\n\n{}")
    }
}

impl Answer {
    /// Any bytes are an answer: what HTTP does not allow is left out.
    pub fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(2).position(|w| w == b"\n\n");
        let (head, body) = end.map_or((bytes, &[][..]), |end| (&bytes[..end], &bytes[end + 2..]));
        let mut lines = head.split(|byte| *byte == b'\n');
        let status = lines.next().and_then(|line| std::str::from_utf8(line).ok()?.trim().parse().ok());
        let header = |line: &[u8]| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let value = line[colon + 1..].trim_ascii_start();
            Some((HeaderName::from_bytes(&line[..colon]).ok()?, HeaderValue::from_bytes(value).ok()?))
        };
        let status = status.filter(|status| (100..=999).contains(status)).unwrap_or(200);
        Self { status, headers: lines.filter_map(header).collect(), body: body.to_vec() }
    }

    /// The first value of a header, if it is plain ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known.as_str() == name)?;
        value.to_str().ok()
    }
}

impl Transport for Canned {
    fn send(&self, request: http::Request<Vec<u8>>) -> Sending<'_> {
        self.seen.lock().unwrap().push(request);
        let mut response = http::Response::new(self.answer.body.clone());
        *response.status_mut() = http::StatusCode::from_u16(self.answer.status).unwrap();
        for (name, value) in &self.answer.headers {
            response.headers_mut().append(name.clone(), value.clone());
        }
        Box::pin(async { Ok(response) })
    }
}

/// A place to send to.
pub fn service() -> Service {
    let endpoint = Endpoint::of_region("cn-shanghai", false).unwrap();
    Service { endpoint, version: Version::V2020, scheme: Scheme::Rpc }
}

/// A key whose parts are easy to find.
pub fn key() -> AccessKey {
    AccessKey::new("canary-id", "canary-secret", Some("canary-token")).unwrap()
}

/// A stamp.
pub fn stamp() -> Stamp {
    Stamp { nonce: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(), time: "2026-01-02T03:04:05Z".parse().unwrap() }
}

/// Waits for what is ready at once.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Starts job 7, and is answered so.
pub fn start(answer: &Answer) -> Reply<StartDiJobAnswer> {
    let client = Client::new(Arc::new(Canned { answer: answer.clone(), ..Canned::default() }));
    let request = StartDiJobRequest { di_job_id: 7, ..StartDiJobRequest::default() };
    now(client.start_di_job(&service(), &key(), &stamp(), &request))
}

/// Looks at job 7, and is answered so.
pub fn get(answer: &Answer) -> Reply<DiJob> {
    let client = Client::new(Arc::new(Canned { answer: answer.clone(), ..Canned::default() }));
    now(client.get_di_job(&service(), &key(), &stamp(), 7))
}
