//! Lists, in pages.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::meta::set;
use super::select::Selector;
use super::store::Collection;
use crate::answer::{Answer, Refusal};
use crate::history::Change;
use crate::request::{Request, Target};
use crate::wire::View;

const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can \
    start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder \
    of the results. Continuing with the provided token results in an inconsistent list - objects that were created, \
    modified, or deleted between the time the first chunk was returned and now may show up in the list.";

pub(crate) fn list(of: &Collection, now: u64, target: &Target, request: &Request) -> Result<Answer, Refusal> {
    let selector = Selector::of(request, "")?;
    let World { length, version, start } = world(of, now, request)?;
    let limit = request.parameter("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
    let mut left = of
        .at(length)
        .into_iter()
        .filter(|change| target.namespace.is_empty() || *change.namespace == *target.namespace)
        .filter(|change| start.is_empty() || path_of(change).as_str() >= start.as_str());
    let mut items = Vec::new();
    let mut rest = None;
    for change in left.by_ref().filter(|change| selector.takes(change.object())) {
        if limit.is_some_and(|limit: usize| items.len() >= limit) {
            rest = Some(1);
            break;
        }
        items.push(change);
    }
    let rest = rest.map(|one| one + left.count());
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if of.kind.custom {
        set(&mut metadata, &["continue"], "");
    }
    if let (Some(rest), Some(last)) = (rest, items.last()) {
        set(&mut metadata, &["continue"], token_of(version, &format!("{}\0", path_of(last))));
        if selector.is_empty() {
            set(&mut metadata, &["remainingItemCount"], rest);
        }
    }
    Ok(Answer::raw(200, written(of, &metadata, &items.iter().map(|change| &**change).collect::<Vec<_>>())))
}

/// What a list is taken from.
struct World {
    /// So many versions of this kind have happened.
    length: usize,
    version: u64,
    /// Where the page begins; empty: at the beginning.
    start: String,
}

fn world(of: &Collection, now: u64, request: &Request) -> Result<World, Refusal> {
    let wanted = request.parameter("resourceVersion").filter(|version| *version != "0");
    let wanted = wanted.map(str::parse::<u64>).transpose().map_err(|_| {
        let message = format!("resourceVersion: Invalid value: {:?}", request.parameter("resourceVersion"));
        Refusal::new(400, "BadRequest", message)
    })?;
    if let Some(token) = request.parameter("continue") {
        let (version, start) = read_token(token)?;
        if version < of.compacted {
            let mut refusal = Refusal::new(410, "Expired", CONTINUE_EXPIRED);
            refusal.list_continue = Some(token_of(now, &start));
            return Err(refusal);
        }
        return Ok(World { length: of.length_at(version), version, start });
    }
    if let (Some(version), Some("Exact")) = (wanted, request.parameter("resourceVersionMatch")) {
        if version < of.compacted {
            return Err(Refusal::new(410, "Expired", "The resourceVersion for the provided list is too old."));
        }
        return Ok(World { length: of.length_at(version), version, start: String::new() });
    }
    let behind = match request.view {
        View::Now => 0,
        View::Behind(versions) => versions,
    };
    let length = of.length_behind(behind);
    let version = of.version_at(length, now);
    match wanted {
        Some(wanted) if wanted > version => Err(too_large(wanted, version)),
        _ => Ok(World { length, version, start: String::new() }),
    }
}

fn written(of: &Collection, metadata: &Value, items: &[&Change]) -> Bytes {
    let kind = &of.kind;
    let mut text = format!(
        "{{\"apiVersion\":{:?},\"kind\":\"{}List\",\"metadata\":{metadata},\"items\":[",
        kind.api_version, kind.kind
    )
    .into_bytes();
    for (index, change) in items.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        if kind.custom {
            text.extend_from_slice(&change.object.bytes());
        } else {
            // Items of built-in kinds do not say again what they are.
            let mut item = change.object().clone();
            if let Value::Object(item) = &mut item {
                item.remove("apiVersion");
                item.remove("kind");
            }
            text.extend_from_slice(item.to_string().as_bytes());
        }
    }
    text.extend_from_slice(b"]}");
    text.into()
}

fn path_of(change: &Change) -> String {
    if change.namespace.is_empty() { change.name.to_string() } else { format!("{}/{}", change.namespace, change.name) }
}

fn token_of(version: u64, start: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!({ "v": "meta.k8s.io/v1", "rv": version, "start": start }).to_string())
}

fn read_token(token: &str) -> Result<(u64, String), Refusal> {
    let read = || {
        let token: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        Some((token.get("rv")?.as_u64()?, token.get("start")?.as_str()?.to_owned()))
    };
    read().ok_or_else(|| Refusal::new(400, "BadRequest", "invalid continue token: continue key is not valid"))
}

fn too_large(wanted: u64, version: u64) -> Refusal {
    let cause = json!({ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" });
    Refusal::new(504, "Timeout", format!("Timeout: Too large resource version: {wanted}, current: {version}"))
        .with(json!({ "causes": [cause], "retryAfterSeconds": 1 }))
}
