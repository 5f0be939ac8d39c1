//! The admin endpoint under `/_sim/`: what the in-process API can do, over HTTP.
//!
//! **May touch:** the core, behind its lock.
//!
//! **Guarantees**
//! 1. It stands outside of the simulated cloud: not signed, not counted, not in the ledger, not subject to faults.
//! 2. What it is told is checked before anything changes; a mistake is answered 4xx with its reason.
//!
//! | request | does |
//! |---|---|
//! | `GET /_sim/ledger?from=N` | all requests from number N on |
//! | `GET /_sim/executions/{job}` | starts and restarts of a job that calls caused |
//! | `GET /_sim/by-hand/{job}` | starts and restarts of a job by a person's hand |
//! | `GET /_sim/neighbours` | what each neighbour has drawn, by the account beside it |
//! | `GET /_sim/profile` | the name of the profile in force |
//! | `GET`, `PUT`, `PATCH /_sim/switches` | shows, replaces, or merges into the switches |
//! | `POST /_sim/faults` | adds one fault to the switches |
//! | `GET`, `POST`, `DELETE /_sim/jobs/{id}` | shows, changes or makes, removes a job |
//! | `PUT`, `DELETE /_sim/keys/{id}` | sets a key from `{"secret": …, "account": …}`, removes it |
//! | `GET`, `DELETE /_sim/temporary-keys` | tells ids, callers and ends of all temporary keys, ends all |
//! | `PUT /_sim/temporary-keys/{id}` | sets one from `{"secret": …, "token": …, "expiration": …, "account": …}` |
//! | `POST /_sim/oidc-tokens` | lets STS take the token of `{"provider": …, "token": …}` |

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::core;
use crate::core::gateway::Key;
use crate::core::identity::{Lent, Temporary};
use crate::core::jobs::{Job, JobPatch};
use crate::core::ledger::{ByHand, Drawn, Entry, Execution};
use crate::core::switches::{Fault, Switches};
use crate::server::Shared;
use crate::simulator::ACCOUNT;

type Cloud = State<Arc<Shared>>;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_sim/ledger", get(ledger))
        .route("/_sim/executions/{job}", get(executions))
        .route("/_sim/by-hand/{job}", get(by_hand))
        .route("/_sim/neighbours", get(neighbours))
        .route("/_sim/profile", get(profile))
        .route("/_sim/switches", get(switches).put(put_switches).patch(patch_switches))
        .route("/_sim/faults", post(add_fault))
        .route("/_sim/jobs/{id}", get(job).post(put_job).delete(remove_job))
        .route("/_sim/keys/{id}", put(put_key).delete(remove_key))
        .route("/_sim/temporary-keys", get(temporary_keys).delete(expire_temporary_keys))
        .route("/_sim/temporary-keys/{id}", put(put_temporary_key))
        .route("/_sim/oidc-tokens", post(announce_token))
}

#[derive(Deserialize)]
struct From {
    #[serde(default)]
    from: usize,
}

async fn ledger(State(cloud): Cloud, Query(From { from }): Query<From>) -> Json<Vec<Entry>> {
    Json(cloud.look(|cloud, _| cloud.ledger().entries().get(from..).unwrap_or_default().to_vec()))
}

async fn executions(State(cloud): Cloud, Path(job): Path<i64>) -> Json<Vec<Execution>> {
    Json(cloud.look(|cloud, _| cloud.ledger().executions(job).to_vec()))
}

async fn by_hand(State(cloud): Cloud, Path(job): Path<i64>) -> Json<Vec<ByHand>> {
    Json(cloud.look(|cloud, _| cloud.ledger().by_hand(job).to_vec()))
}

async fn neighbours(State(cloud): Cloud) -> Json<BTreeMap<String, Drawn>> {
    Json(cloud.look(|cloud, _| cloud.ledger().neighbours().clone()))
}

async fn profile(State(cloud): Cloud) -> String {
    cloud.look(|cloud, _| cloud.switches.profile_name())
}

async fn switches(State(cloud): Cloud) -> Json<Switches> {
    Json(cloud.look(|cloud, _| cloud.switches.clone()))
}

async fn put_switches(State(cloud): Cloud, Json(switches): Json<Switches>) {
    cloud.change(|cloud, _| cloud.switches = switches);
}

async fn patch_switches(State(cloud): Cloud, Json(patch): Json<Value>) -> Result<Json<Switches>, (StatusCode, String)> {
    let patched = cloud.change(|cloud, _| {
        let mut whole = serde_json::to_value(&cloud.switches)?;
        merge(&mut whole, patch);
        cloud.switches = serde_json::from_value(whole)?;
        Ok::<_, serde_json::Error>(cloud.switches.clone())
    });
    patched.map(Json).map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}

async fn add_fault(State(cloud): Cloud, Json(fault): Json<Fault>) {
    cloud.change(|cloud, _| cloud.switches.faults.push(fault));
}

async fn job(State(cloud): Cloud, Path(id): Path<i64>) -> Result<Json<Job>, StatusCode> {
    cloud.look(|cloud, _| cloud.job(id).cloned()).map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn put_job(State(cloud): Cloud, Path(id): Path<i64>, Json(patch): Json<JobPatch>) -> Json<Job> {
    Json(cloud.change(|cloud, now| cloud.put_job(now, id, &patch).clone()))
}

async fn remove_job(State(cloud): Cloud, Path(id): Path<i64>) -> StatusCode {
    removed(cloud.change(|cloud, _| cloud.remove_job(id)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    secret: String,
    account: Option<String>,
}

async fn put_key(State(cloud): Cloud, Path(id): Path<String>, Json(NewKey { secret, account }): Json<NewKey>) {
    let account = account.unwrap_or_else(|| ACCOUNT.to_owned());
    cloud.change(|cloud, _| cloud.put_key(&id, Key { account, secret }));
}

async fn remove_key(State(cloud): Cloud, Path(id): Path<String>) -> StatusCode {
    removed(cloud.change(|cloud, _| cloud.remove_key(&id)))
}

async fn temporary_keys(State(cloud): Cloud) -> Json<Vec<Lent>> {
    Json(cloud.look(|cloud, _| cloud.temporary_keys()))
}

async fn expire_temporary_keys(State(cloud): Cloud) -> StatusCode {
    cloud.change(core::Cloud::expire_temporary_keys);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTemporaryKey {
    secret: String,
    token: String,
    expiration: Timestamp,
    account: Option<String>,
}

async fn put_temporary_key(State(cloud): Cloud, Path(id): Path<String>, Json(new): Json<NewTemporaryKey>) {
    let account = new.account.as_deref().unwrap_or(ACCOUNT);
    let temporary = Temporary::by_hand(account, &new.secret, &new.token, new.expiration);
    cloud.change(|cloud, _| cloud.put_temporary_key(&id, temporary));
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    provider: String,
    token: String,
}

async fn announce_token(State(cloud): Cloud, Json(NewToken { provider, token }): Json<NewToken>) {
    cloud.change(|cloud, _| cloud.announce_token(&provider, &token));
}

fn removed(was_there: bool) -> StatusCode {
    if was_there { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

/// JSON merge patch, but that null stays a value: for a switch it means "off", not "absent".
fn merge(whole: &mut Value, patch: Value) {
    match (whole, patch) {
        (Value::Object(whole), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(whole.entry(name).or_insert(Value::Null), value);
            }
        }
        (whole, patch) => *whole = patch,
    }
}
