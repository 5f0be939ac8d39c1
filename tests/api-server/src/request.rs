//! One request, read.
//!
//! **May touch:** nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::wire::{Verb, View};

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it wants.
    pub verb: Verb,
    /// Path and query as they were sent.
    pub uri: String,
    /// The parts of the path.
    pub path: Vec<String>,
    /// The query.
    pub query: BTreeMap<String, String>,
    /// The body; absent if there is none or it is no JSON.
    pub body: Option<Arc<Value>>,
    /// How old the world is that a list or a watch shows.
    pub view: View,
}

/// What a path names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Empty: all namespaces, or none.
    pub namespace: String,
    /// Plural name of the kind.
    pub resource: String,
    /// Empty: the collection.
    pub name: String,
    /// Empty: the object itself.
    pub subresource: String,
}

impl Request {
    /// A request with this verb. For a URI without a name, [`Verb::Get`] is a list, or a watch if the query asks for one.
    #[must_use]
    pub fn new(verb: Verb, uri: &str, body: Option<Value>) -> Self {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let path: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
        let query: BTreeMap<String, String> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (decode(key), decode(value)))
            .collect();
        let mut request =
            Self { verb, uri: uri.to_owned(), path, query, body: body.map(Arc::new), view: View::default() };
        request.verb = match (request.target(), verb) {
            (None, _) => Verb::Other,
            (Some(_), Verb::Get) if request.flag("watch") => Verb::Watch,
            (Some(target), Verb::Get) if target.name.is_empty() => Verb::List,
            (Some(_), verb) => verb,
        };
        request
    }

    /// A request as HTTP has it. `None`: a method or a kind of patch that is not known here.
    #[must_use]
    pub fn from_http(method: &str, uri: &str, content_type: &str, body: &[u8]) -> Option<Self> {
        let verb = match method {
            "GET" => Verb::Get,
            "POST" => Verb::Create,
            "PUT" => Verb::Replace,
            "DELETE" => Verb::Delete,
            "PATCH" => match content_type.split(';').next().unwrap_or_default() {
                "application/apply-patch+yaml" => Verb::Apply,
                "application/merge-patch+json" => Verb::Merge,
                "application/json-patch+json" => Verb::JsonPatch,
                _ => return None,
            },
            _ => return None,
        };
        Some(Self::new(verb, uri, serde_json::from_slice(body).ok()))
    }

    /// A parameter of the query; an empty one is absent.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether a parameter says yes.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.parameter(name), Some("true" | "1"))
    }

    /// Whether nothing is to be written.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.parameter("dryRun") == Some("All")
    }

    /// What the path names. `None`: no object and no collection.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        let mut parts = self.path.iter().map(String::as_str);
        let group = match parts.next()? {
            "api" => "",
            "apis" => parts.next()?,
            _ => return None,
        };
        let version = parts.next()?;
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && !is_own_subresource(rest) => (*namespace, rest),
            rest => ("", rest),
        };
        let mut rest = rest.iter().map(|part| (*part).to_owned());
        let target = Target {
            group: group.to_owned(),
            version: version.to_owned(),
            namespace: namespace.to_owned(),
            resource: rest.next()?,
            name: rest.next().unwrap_or_default(),
            subresource: rest.next().unwrap_or_default(),
        };
        rest.next().is_none().then_some(target)
    }
}

/// `/namespaces/NAME/status` is about the namespace itself.
fn is_own_subresource(rest: &[&str]) -> bool {
    matches!(rest, ["status" | "finalize"])
}

/// Percent and plus, decoded; a broken escape stays as it is.
fn decode(text: &str) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let mut ahead = bytes.clone();
                let digits = [ahead.next(), ahead.next()].map(|d| d.and_then(|d| char::from(d).to_digit(16)));
                if let [Some(high), Some(low)] = digits {
                    decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    bytes = ahead;
                } else {
                    decoded.push(b'%');
                }
            }
            other => decoded.push(other),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
