//! The honest world: from any state, what follows when nothing fails any more.

use std::collections::HashSet;
use std::sync::Arc;

use dijob_operator::api::condition::ConditionStatus;
use dijob_operator::plan::Wait;

use super::canon::number;
use super::cloud::{Execution, Fate};
use super::ledger::asked;
use super::process::{Api, Doing};
use super::world::{Edit, World};

/// From here on nothing fails, until nobody has anything to do: then everything has come to its end.
pub fn honest(from: &World, calm: &mut HashSet<u128>) -> Result<(), String> {
    let mut world = from.clone();
    world.budget = super::world::Budget { edits: 0, crashes: 0, lost: 0, troubles: 0, moves: 0, stale: 0, ticks: 0 };
    let (mut way, mut idle, mut id) = (Vec::new(), 0, number(&world));
    for _ in 0..2_000 {
        if calm.contains(&id) {
            calm.extend(way);
            return Ok(());
        }
        way.push(id);
        let (version, starts) = (world.object.rv, world.ledger.starts.len());
        step_honestly(&mut world)?;
        if world.object.rv != version || world.ledger.starts.len() != starts {
            idle = 0;
        }
        let before = std::mem::replace(&mut id, number(&world));
        if before != id {
            continue;
        }
        let Wait::Until(at) = world.wait_of(world.leader) else { break };
        let until = at.as_millisecond().max(world.now + 1);
        idle += until - world.now;
        world.now = until;
        if idle > 3 * 3_600_000 {
            break;
        }
        id = number(&world);
    }
    if way.len() >= 2_000 {
        return Err("I10: never quiet".to_owned());
    }
    ended(&world, from)?;
    calm.extend(way);
    Ok(())
}

fn step_honestly(world: &mut World) -> Result<(), String> {
    world.now += 1;
    if !world.wire.is_empty() {
        return world.arrive(0);
    }
    if !world.cloud.coming.is_empty() {
        return world.carry_out(0);
    }
    for p in [world.leader, 1 - world.leader] {
        match &world.processes[p].doing {
            Doing::Idle => {}
            Doing::Committed(_) => return world.send(p, Some(Fate::Good), false),
            Doing::Calling(_, answer) => {
                world.now += if answer.is_some() { 0 } else { 15_000 };
                world.answered(p, false);
                return Ok(());
            }
            Doing::Recording(..) => return world.record(p, Api::Good),
        }
    }
    let facts = &world.processes[1 - world.leader].facts;
    if facts.unrecorded.is_some() || !facts.never_sent.is_empty() {
        world.pass(1 - world.leader, 0, false, Api::Good)?;
        Arc::make_mut(&mut world.processes[1 - world.leader]).facts.never_sent.clear();
    }
    world.pass(world.leader, 0, false, Api::Good)?;
    Ok(())
}

fn demand(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}

/// I2: what is still wanted has ended, visibly.
fn ended(world: &World, from: &World) -> Result<(), String> {
    let object = &world.object;
    let status = &object.status;
    demand(!world.is_busy(), || "I10: something is still under way".to_owned())?;
    if object.deleting {
        return Ok(());
    }
    let condition = |type_: &str| status.conditions.iter().find(|c| c.type_ == type_);
    let ready = condition("Ready").ok_or("I2: no Ready")?;
    demand(condition("Reconciling").is_none(), || format!("I2: in progress: {} {}", ready.reason, ready.message))?;
    demand(status.observed_generation == object.generation, || "I2: an edit was overlooked".to_owned())?;
    let impossible = ["AccountChanged", "CredentialsMissing"].contains(&ready.reason.as_str());
    if object.spec.suspend || !world.key.1 || impossible {
        return Ok(());
    }
    demand(status.pending_start.is_none(), || "I2: a start is unresolved".to_owned())?;
    if from.budget.troubles == 0 && ready.reason == "StartRejected" {
        return Ok(());
    }
    let applied = status.applied.as_ref().ok_or("I2: nothing was ever handled")?;
    demand(applied.di_job_id == object.spec.di_job_id, || "I2: the job was not changed".to_owned())?;
    let settings = applied.realtime_start_settings.as_ref();
    let failover = settings.and_then(|s| s.failover_settings.as_ref());
    let handled = (settings.and_then(|s| s.start_time), failover.and_then(|f| f.interval), applied.force_to_rerun);
    demand(handled == asked(&object.spec), || "I2: the last edit was not handled".to_owned())?;
    let token = object.annotations.rerun.iter().all(|t| status.handled_rerun_tokens.contains(t));
    demand(token, || "I2: a token was overlooked".to_owned())?;
    let last = status.last_start.as_ref();
    if ready.status == ConditionStatus::True {
        let blind = ready.reason == "StartAccepted";
        let job = super::cloud::index(super::world::REGIONS[world.region], object.spec.di_job_id);
        let at_work = ["Running", "Finished"].contains(&world.cloud.jobs[job].word);
        let person = from.menu.contains(&Edit::PersonStops);
        return demand(blind || at_work || person, || "I5: Ready, and the job does not run".to_owned());
    }
    if let Some(last) = last.filter(|l| l.outcome == "Unknown") {
        let start = world.ledger.known(&last.id).ok_or("I2: an unknown start of nobody")?;
        let already = from.object.status.last_start.as_ref().is_some_and(|l| l.id == last.id);
        let excused = already || start.died || start.attempts.iter().any(|a| a.sent);
        demand(excused, || format!("I2: {} was lost though its process lived and nothing was sent", last.id))?;
    }
    let executes = world.profile.execution != Execution::Never;
    let unseen = ready.reason == "NotRunning" && executes && !from.menu.contains(&Edit::PersonStops);
    demand(!unseen || last.is_none_or(|l| l.outcome != "Accepted"), || "I2: accepted, ran, and not seen".to_owned())?;
    let ends = condition("Stalled").is_some() || ready.status == ConditionStatus::Unknown;
    demand(ends, || format!("I2: {} is no end", ready.reason))
}
