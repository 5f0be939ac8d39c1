//! The story: each step does one thing, says what should follow, and fails if it does not.
//!
//! **May touch:** the play.
//!
//! **Guarantees**
//! 1. The cloud's own ledger judges, and the status that a user sees; never the operator's log.

use std::time::Duration;

use dijob_operator::api::{DataIntegrationJob, RERUN_ANNOTATION};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use simulator::{Behaviour, Console, Fault, Hint, JobPatch, JobStatus, Refusal};

use crate::Failure;
use crate::cluster::NAMESPACE;
use crate::play::Play;
use crate::stage::{KEY, OPERATOR, Stage};

const SAMPLE: &str = "orders-to-hologres";
const TOKEN: &str = "2026-11-24-a";
/// A key of a cloud account whose edition does not allow the API.
const TRIAL: (&str, &str, &str) = ("2000000000000002", "trial-key", "trial-secret");
const START: &str = "StartDIJob";

/// All steps.
pub async fn tell(play: &mut Play) -> Result<(), Failure> {
    operator(play).await?;
    sample(play).await?;
    throttled(play).await?;
    refused(play).await?;
    lost_answer(play).await?;
    killed(play).await?;
    rerun(play).await?;
    adopted(play).await?;
    play.show.step("The account");
    play.show.command("kubectl get dij");
    play.table().await?;
    play.show.say("What the cloud's ledger says of StartDIJob:");
    play.settle_accounts()
}

async fn operator(play: &mut Play) -> Result<(), Failure> {
    play.show.say(&format!(
        "The operator starts as a process of its own, instead of by deploy/base/deployment.yaml: there is no node here. \
         Waits are shortened for this demo: {}",
        Stage::shortened()
    ));
    let id = play.stage.start_operator()?;
    play.show.as_expected(&format!("dijob-operator runs, process {id}, as {OPERATOR} with the shipped RBAC"));
    let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
    let (code, _) = play.stage.plane.request(OPERATOR, "GET", &path, "")?;
    play.expect(code == 403, "it has no other right: listing Secrets as the operator is Forbidden", &code.to_string())?;
    play.show.say(
        "Before it leads for the first time it waits one --lease-duration: a Lease that is not there may have been deleted \
         under its holder.",
    );
    let holder = play.wait_for_leader().await?;
    play.show.as_expected(&format!("{holder} leads: it holds the Lease dijob-system/dijob-operator"));
    Ok(())
}

async fn sample(play: &mut Play) -> Result<(), Failure> {
    let id = 11743;
    play.show.step("A job is applied, and started with exactly its settings");
    play.stage.cloud.put_job(id, &JobPatch::default());
    play.show.command("kubectl apply -k deploy/samples");
    play.show.say(
        "Changed for this demo: the Secret holds the simulator's key instead of the placeholder, and the account names \
         the simulator as endpoint instead of a regionId.",
    );
    apply_secret(play, "dataworks-key", KEY).await?;
    apply_account(play, "prod", "dataworks-key").await?;
    play.apply("deploy/samples/job.yaml", |_| ()).await?;
    runs(play, SAMPLE).await?;

    let spec = play.seen.job(SAMPLE).and_then(|job| job.spec.realtime_start_settings.clone()).unwrap_or_default();
    let failover = spec.failover_settings.clone().unwrap_or_default();
    let wanted = json!({
        "StartTime": spec.start_time,
        "FailoverSettings": { "Interval": failover.interval, "UpperLimit": failover.upper_limit },
    });
    let sent = play.starts(id).into_iter().next().map(|entry| entry.parameters).unwrap_or_default();
    let text = sent.get("RealtimeStartSettings").cloned().unwrap_or_default();
    let settings: Value = serde_json::from_str(&text).unwrap_or_default();
    let exact =
        settings == wanted && sent.get("DIJobId") == Some(&id.to_string()) && !sent.contains_key("ForceToRerun");
    let claim = format!("the cloud was sent DIJobId={id} RealtimeStartSettings={text}, and no ForceToRerun");
    play.expect(exact, &claim, &format!("{sent:?}"))?;
    play.account(SAMPLE, id, (1, 1), "started when first applied")
}

async fn throttled(play: &mut Play) -> Result<(), Failure> {
    let (name, id, pause) = ("throttled", 11744, 4000);
    play.show.step("A throttled start waits as long as the cloud asks, then is sent again");
    play.show.say(&format!(
        "The cloud will answer the next start 429 Throttling.User, with the header x-acs-retry-after: {pause} (ms)."
    ));
    let answer = Behaviour::error(Refusal::of("Throttling.User")).with_hint(Hint::RetryAfter(Some(pause)));
    play.stage.cloud.add_fault(next_start(id, answer));
    apply_job(play, name, id, "prod").await?;
    runs(play, name).await?;
    let said = play.seen.said(name, "Throttled").unwrap_or_default().to_owned();
    let until = said.split("until ").nth(1).and_then(|rest| rest.split([',', ' ']).next()).unwrap_or_default();
    play.expect(until.ends_with('Z'), &format!("it showed Throttled until {until}"), &said)?;
    let times: Vec<_> = play.starts(id).iter().map(|entry| (entry.last_byte, entry.answered)).collect();
    let waited = match times.as_slice() {
        [(_, Some(refused)), (again, _)] => again.duration_since(*refused).as_millis(),
        _ => 0,
    };
    let claim = format!("the second call came {waited} ms after the refusal");
    play.expect(waited >= i128::from(pause), &claim, "too early")?;
    play.account(name, id, (2, 1), "refused once with 429, then started")
}

async fn refused(play: &mut Play) -> Result<(), Failure> {
    let (name, id) = ("refused", 11745);
    play.show.step("A refused start says why and what to do, and goes on by itself once that is done");
    play.show.say("The account \"trial\" has a key of a cloud account whose edition does not allow the API.");
    let (account, key, secret) = TRIAL;
    play.stage.cloud.add_key_of(account, key, secret);
    let behaviour = Behaviour::error(Refusal::of("Forbidden.Access"));
    play.stage.cloud.add_fault(Fault { account: Some(account.to_owned()), behaviour, ..Fault::default() });
    play.show.command("kubectl apply -f trial.yaml    # a Secret trial-key, and an account that names it");
    apply_secret(play, "trial-key", (key, secret)).await?;
    apply_account(play, "trial", "trial-key").await?;
    apply_job(play, name, id, "trial").await?;
    play.wait(name, "refused and explained", |seen| seen.events(name, "AccessDenied").next().is_some()).await?;
    let request = play.starts(id).into_iter().next().map(|entry| entry.request_id).unwrap_or_default();
    let note = play.seen.events(name, "AccessDenied").next().unwrap_or_default().to_owned();
    let explained = note.contains("Forbidden.Access") && !request.is_empty() && note.contains(&request);
    play.expect(explained, "the Event holds the cloud's code, the RequestId of the ledger, and what to do", &note)?;

    play.show.command("kubectl apply -f secret.yaml    # trial-key, now with a key that may");
    apply_secret(play, "trial-key", KEY).await?;
    runs(play, name).await?;
    play.account(name, id, (2, 1), "refused once with 403, started with a mended Secret")
}

async fn lost_answer(play: &mut Play) -> Result<(), Failure> {
    let (name, id) = ("lost-answer", 11746);
    play.show.step("A start whose answer is lost is looked for, not sent again");
    play.show.say(
        "The cloud will carry out the next start and close the connection without an answer. With its startTime this \
         start moves the offset: sent twice, it would do so twice.",
    );
    play.stage.cloud.add_fault(next_start(id, Behaviour::lost_answer()));
    apply_job(play, name, id, "prod").await?;
    runs(play, name).await?;
    let said = play.seen.said(name, "ResolvingStart").unwrap_or_default().to_owned();
    play.expect(said.contains("never sent twice"), "it showed ResolvingStart, as its Event says", &said)?;
    confirmed(play, name)?;
    play.account(name, id, (1, 1), "its answer was lost; seen and not repeated")
}

async fn killed(play: &mut Play) -> Result<(), Failure> {
    let (name, id) = ("killed", 11747);
    play.show.step("The operator is killed in the middle of a start, and the start is not repeated");
    play.show.say("The cloud will carry out the next start and never answer; the operator dies while it waits.");
    play.stage.cloud.add_fault(next_start(id, Behaviour::hang_after()));
    apply_job(play, name, id, "prod").await?;
    let executed =
        play.stage.cloud.wait_until(Duration::from_secs(20), |ledger| ledger.executions(id).len() == 1).await;
    if !executed {
        return Err(format!("expected: a start of {name} reaches the cloud within 20 s; seen: none").into());
    }
    let dead = play.stage.kill_operator();
    play.show.command(&format!("kill -9 {dead}    # dijob-operator"));
    let id_now = play.stage.start_operator()?;
    play.show.say(&format!(
        "Process {id_now} takes its place. It waits until the Lease of the dead one is over (5 s), finds the record that \
         was written before the call, and looks for its effect."
    ));
    runs(play, name).await?;
    confirmed(play, name)?;
    play.account(name, id, (1, 1), "killed before its answer; seen and not repeated")
}

async fn rerun(play: &mut Play) -> Result<(), Failure> {
    play.show.step("A rerun is asked for: one token, one more start");
    play.show.command(&format!("kubectl annotate dij {SAMPLE} {RERUN_ANNOTATION}={TOKEN}"));
    patch(play, &json!({ "metadata": { "annotations": { RERUN_ANNOTATION: TOKEN } } })).await?;
    play.wait(SAMPLE, "started again and running", |seen| {
        let handled = seen.job(SAMPLE).and_then(|job| job.status.as_ref()).map(|status| &status.handled_rerun_tokens);
        handled.is_some_and(|tokens| tokens.iter().any(|token| token == TOKEN))
            && seen.is_ready(SAMPLE)
            && seen.events(SAMPLE, "StartConfirmed").any(|note| note.contains(TOKEN))
    })
    .await?;
    play.account(SAMPLE, 11743, (2, 2), "started when first applied, and once for the token")?;

    play.show.say("The same token again, now from Git: the annotation goes, spec.rerunToken comes.");
    play.show.command(&format!(
        "kubectl patch dij {SAMPLE} --type merge -p '{{\"spec\": {{\"rerunToken\": \"{TOKEN}\"}}, …}}'"
    ));
    let change = json!({ "metadata": { "annotations": { RERUN_ANNOTATION: null } }, "spec": { "rerunToken": TOKEN } });
    let generation = patch(play, &change).await?;
    play.wait(SAMPLE, "its new spec looked at", |seen| {
        let observed = seen.job(SAMPLE).and_then(|job| job.status.as_ref()).map(|status| status.observed_generation);
        observed == Some(generation) && seen.is_ready(SAMPLE)
    })
    .await?;
    play.show.as_expected(&format!(
        "generation {generation} was looked at, and Ready stays True: a handled token does nothing"
    ));
    play.account(SAMPLE, 11743, (2, 2), "started when first applied, and once for the token")
}

async fn adopted(play: &mut Play) -> Result<(), Failure> {
    let (name, id) = ("adopted", 11748);
    play.show.step("A job that already runs is adopted, not started");
    play.show.say("A person started this job in the DataWorks console before it is declared here.");
    play.stage.cloud.console(id, Console::Start);
    let cloud = &play.stage.cloud;
    let mut running = false;
    for _ in 0..50 {
        running = cloud.job(id).is_some_and(|job| job.status == JobStatus::Running);
        if running {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    if !running {
        return Err("expected: the simulated job runs within 5 s of its start; seen: it does not".into());
    }
    apply_job(play, name, id, "prod").await?;
    play.wait(name, "adopted", |seen| seen.is_ready(name) && seen.events(name, "Adopted").next().is_some()).await?;
    play.account(name, id, (0, 0), "it ran already")
}

/// Waits for a start that was accepted or seen, and its Event.
async fn runs(play: &mut Play, name: &str) -> Result<(), Failure> {
    play.wait(name, "running", |seen| seen.is_ready(name) && seen.events(name, "StartConfirmed").next().is_some()).await
}

fn confirmed(play: &mut Play, name: &str) -> Result<(), Failure> {
    let outcome = play.seen.outcome(name).unwrap_or("none").to_owned();
    play.expect(outcome == "Confirmed", "its effect was seen in the job: the outcome is Confirmed", &outcome)
}

fn next_start(job: i64, behaviour: Behaviour) -> Fault {
    Fault { calls: Some(1), action: Some(START.to_owned()), job: Some(job), behaviour, ..Fault::default() }
}

async fn apply_secret(play: &Play, name: &str, (id, secret): (&str, &str)) -> Result<(), Failure> {
    play.apply("deploy/samples/secret.yaml", |object| {
        set(object, "/metadata/name", json!(name));
        set(object, "/stringData/accessKeyId", json!(id));
        set(object, "/stringData/accessKeySecret", json!(secret));
    })
    .await
}

async fn apply_account(play: &Play, name: &str, secret: &str) -> Result<(), Failure> {
    let url = play.stage.cloud.url();
    play.apply("deploy/samples/account.yaml", |object| {
        set(object, "/metadata/name", json!(name));
        set(object, "/spec/credentials/secretRef/name", json!(secret));
        if let Some(spec) = object.pointer_mut("/spec").and_then(Value::as_object_mut) {
            spec.remove("regionId");
            spec.insert("endpoint".to_owned(), json!(url));
        }
    })
    .await
}

/// The sample job under another name and for another job of the cloud, which is made if it is not there.
async fn apply_job(play: &mut Play, name: &str, id: i64, account: &str) -> Result<(), Failure> {
    play.stage.cloud.put_job(id, &JobPatch::default());
    let other = if account == "prod" { String::new() } else { format!(" and accountRef {account}") };
    play.show.command(&format!("kubectl apply -f {name}.yaml    # the sample job with diJobId {id}{other}"));
    play.apply("deploy/samples/job.yaml", |object| {
        set(object, "/metadata/name", json!(name));
        set(object, "/spec/diJobId", json!(id));
        set(object, "/spec/accountRef/name", json!(account));
    })
    .await
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    if let Some(place) = object.pointer_mut(pointer) {
        *place = value;
    }
}

/// Merges a change into the sample job; returns its generation.
async fn patch(play: &Play, change: &Value) -> Result<i64, Failure> {
    let api: Api<DataIntegrationJob> = Api::namespaced(play.stage.client.clone(), NAMESPACE);
    let job = api.patch(SAMPLE, &PatchParams::default(), &Patch::Merge(change)).await?;
    Ok(job.metadata.generation.unwrap_or_default())
}
