//! The cluster as a user of it works: applies manifests, and watches what `kubectl get dij --watch` would show.
//!
//! **May touch:** the API server, as the admin; manifests of this repository.
//!
//! **Guarantees**
//! 1. Rows are those that the API server renders for kubectl; nothing is formatted here.
//! 2. A watch that ends is opened again; each row and each Event is there at least once.

use std::path::Path;
use std::time::Duration;

use dijob_operator::api::DataIntegrationJob;
use futures::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DynamicObject, Patch, PatchParams, WatchEvent};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Scope, pinned_kind};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::Value;

use crate::Failure;

/// Where the samples live.
pub const NAMESPACE: &str = "default";

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const JOBS: &str = "/apis/dijob.dev/v1alpha1/namespaces/default/dataintegrationjobs";
const WATCHED_JOBS: &str =
    "/apis/dijob.dev/v1alpha1/namespaces/default/dataintegrationjobs?watch=true&includeObject=Object";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events?watch=true";

/// A column that the API server defines.
#[derive(Clone, Debug, Deserialize)]
pub struct Column {
    /// Its title.
    pub name: String,
    /// `date` for an age.
    #[serde(rename = "type")]
    pub type_: String,
    /// 0: shown without `-o wide`.
    #[serde(default)]
    pub priority: i32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    /// In the first one of a watch alone.
    #[serde(default)]
    column_definitions: Option<Vec<Column>>,
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    cells: Vec<Value>,
    object: Value,
}

/// Something new.
pub enum Change {
    /// A job, and the cells of its row.
    Job(Box<DataIntegrationJob>, Vec<Value>),
    /// An Event.
    Event(Box<Event>),
}

/// What changes in [`NAMESPACE`].
pub struct Watch {
    client: Client,
    jobs: BoxStream<'static, kube::Result<WatchEvent<Table>>>,
    events: BoxStream<'static, kube::Result<WatchEvent<Event>>>,
    /// The columns of the rows.
    pub columns: Vec<Column>,
}

impl Watch {
    /// Begins with what is there.
    pub async fn open(client: &Client) -> Result<Self, Failure> {
        let (jobs, events) =
            (open(client, WATCHED_JOBS, TABLE).await?, open(client, EVENTS, "application/json").await?);
        Ok(Self { client: client.clone(), jobs, events, columns: Vec::new() })
    }

    /// The next change. May be dropped while it waits, without losing one.
    pub async fn next(&mut self) -> Result<Change, Failure> {
        loop {
            let ended = tokio::select! {
                seen = self.jobs.next() => match seen.transpose()? {
                    Some(WatchEvent::Added(table) | WatchEvent::Modified(table)) => {
                        self.columns = table.column_definitions.filter(|c| !c.is_empty()).unwrap_or(std::mem::take(&mut self.columns));
                        if let Some(row) = table.rows.into_iter().next() {
                            return Ok(Change::Job(Box::new(serde_json::from_value(row.object)?), row.cells));
                        }
                        false
                    }
                    Some(WatchEvent::Deleted(_) | WatchEvent::Bookmark(_)) => false,
                    Some(WatchEvent::Error(_)) | None => true,
                },
                seen = self.events.next() => match seen.transpose()? {
                    Some(WatchEvent::Added(event) | WatchEvent::Modified(event)) => return Ok(Change::Event(Box::new(event))),
                    Some(WatchEvent::Deleted(_) | WatchEvent::Bookmark(_)) => false,
                    Some(WatchEvent::Error(_)) | None => true,
                },
            };
            if ended {
                *self = Self { columns: std::mem::take(&mut self.columns), ..Self::open(&self.client).await? };
            }
        }
    }
}

async fn open<T>(
    client: &Client,
    path: &str,
    accept: &str,
) -> Result<BoxStream<'static, kube::Result<WatchEvent<T>>>, Failure>
where
    T: Clone + for<'a> Deserialize<'a> + Send + 'static,
{
    let request = http::Request::get(path).header(http::header::ACCEPT, accept).body(Vec::new())?;
    Ok(client.request_events::<T>(request).await?.boxed())
}

/// All jobs as the API server renders them for kubectl: columns and rows.
pub async fn rows(client: &Client) -> Result<(Vec<Column>, Vec<Vec<Value>>), Failure> {
    let request = http::Request::get(JOBS).header(http::header::ACCEPT, TABLE).body(Vec::new())?;
    let table: Table = client.request(request).await?;
    let rows = table.rows.into_iter().map(|row| row.cells).collect();
    Ok((table.column_definitions.unwrap_or_default(), rows))
}

/// The documents of one manifest, by its path in this repository.
pub fn manifest(path: &str) -> Result<Vec<Value>, Failure> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{path}: {error}"))?;
    Ok(serde_saphyr::from_multiple(&text).map_err(|error| format!("{path}: {error}"))?)
}

/// Applies one object, as `kubectl apply --server-side` does.
pub async fn apply(client: &Client, object: &Value) -> Result<(), Failure> {
    let object: DynamicObject = serde_json::from_value(object.clone())?;
    let types = object.types.clone().ok_or("a manifest without kind")?;
    let (resource, capabilities) = served(client, &GroupVersionKind::try_from(&types)?).await?;
    let name = object.metadata.name.clone().ok_or("a manifest without name")?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or(NAMESPACE);
    let api: Api<DynamicObject> = match capabilities {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let applied = api.patch(&name, &PatchParams::apply("demo").force(), &Patch::Apply(&object)).await;
    applied.map(drop).map_err(|error| format!("applying {} {name}: {error}", types.kind).into())
}

/// The resource of a kind. A kind whose CRD was applied a moment ago is waited for.
async fn served(client: &Client, kind: &GroupVersionKind) -> Result<(ApiResource, Scope), Failure> {
    let found = async {
        loop {
            match pinned_kind(client, kind).await {
                Ok((resource, capabilities)) => return (resource, capabilities.scope),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(20), found).await;
    found.map_err(|_| format!("the API server does not serve {} after 20 s", kind.kind).into())
}
