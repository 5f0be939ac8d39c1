//! Breadth first through every state of a scope, each once, and the honest world from each.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use dijob_operator::api::condition::ConditionStatus;
use dijob_operator::plan::Wait;
use std::sync::Arc;

use super::canon::number;
use super::cloud::{Execution, Fate};
use super::ledger::asked;
use super::process::{Api, Doing};
use super::world::{Edit, World};

/// Seconds of a step of time.
const TICKS: [i64; 4] = [30, 120, 600, 900];

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A process does its next effect.
    Pass {
        /// Which.
        p: usize,
        /// On a view that is one version old.
        stale: bool,
        /// The read fails.
        fails: bool,
        /// How its write is taken.
        api: Api,
    },
    /// The request leaves; `None`: and does not arrive now.
    Send(usize, Option<Fate>),
    /// The request leaves, and arrives later.
    SendLate(usize),
    /// The answer comes, or the call times out.
    Answer(usize),
    /// The answer is there, and is lost.
    AnswerLost(usize),
    /// The outcome is written.
    Record(usize, Api),
    /// A process dies.
    Crash(usize),
    /// The lease moves.
    Move,
    /// A late copy arrives.
    Arrive(usize),
    /// The cloud carries out what it accepted.
    Execute(usize),
    /// Somebody edits.
    Edit(Edit),
    /// Time passes, seconds.
    Wait(i64),
}

/// What an exploration saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// Distinct states.
    pub states: usize,
    /// Steps taken.
    pub steps: usize,
    /// Steps from the first state to the furthest.
    pub depth: usize,
    /// States of honest runs besides.
    pub honest: usize,
    /// Most executions of one ordinary start.
    pub most: u8,
    /// States at which the exploration was cut.
    pub cut: bool,
}

fn take(left: &mut u8) -> bool {
    let may = *left > 0;
    *left = left.saturating_sub(1);
    may
}

/// The state after a step. `None`: it is not possible here.
fn after(world: &World, step: Step) -> Result<Option<World>, String> {
    let mut next = world.clone();
    next.now += 1;
    let budget = &mut next.budget;
    let paid = match step {
        Step::Pass { stale, fails, api, .. } => {
            (!stale || take(&mut budget.stale))
                && (!fails || take(&mut budget.troubles))
                && (api == Api::Good || take(&mut budget.lost))
        }
        Step::Send(_, Some(Fate::Good)) => true,
        Step::Send(_, Some(_)) => take(&mut budget.troubles),
        Step::Send(_, None) | Step::SendLate(_) | Step::AnswerLost(_) => take(&mut budget.lost),
        Step::Record(_, api) => api == Api::Good || take(&mut budget.lost),
        Step::Crash(_) => take(&mut budget.crashes),
        Step::Move => take(&mut budget.moves),
        Step::Edit(_) => take(&mut budget.edits),
        Step::Wait(_) => take(&mut budget.ticks),
        Step::Answer(_) | Step::Arrive(_) | Step::Execute(_) => true,
    };
    if !paid {
        return Ok(None);
    }
    let mut done = true;
    match step {
        Step::Pass { p, stale, fails, api } => {
            let touched = next.pass(p, stale, fails, api)?;
            done = (!fails || touched.read) && (api == Api::Good || touched.wrote);
        }
        Step::Send(p, fate) => next.send(p, fate, false)?,
        Step::SendLate(p) => next.send(p, None, true)?,
        Step::Answer(p) => next.answered(p, false),
        Step::AnswerLost(p) => next.answered(p, true),
        Step::Record(p, api) => next.record(p, api)?,
        Step::Crash(p) => next.crash(p),
        Step::Move => next.lease_moves(),
        Step::Arrive(n) => next.arrive(n)?,
        Step::Execute(n) => next.carry_out(n)?,
        Step::Edit(edit) => done = next.edit(edit)?,
        Step::Wait(seconds) => next.now += seconds * 1_000 - 1,
    }
    Ok(done.then_some(next))
}

/// All steps that may be possible.
fn steps(world: &World) -> Vec<Step> {
    let mut all = Vec::new();
    for p in 0..2 {
        let process = &world.processes[p];
        match &process.doing {
            Doing::Idle => {
                let own = process.facts.unrecorded.is_some() || !process.facts.never_sent.is_empty();
                if world.leader != p && !own {
                    continue; // it has nothing to do, and nothing to lose
                }
                let good = Step::Pass { p, stale: false, fails: false, api: Api::Good };
                all.push(good);
                all.push(Step::Pass { p, stale: false, fails: true, api: Api::Good });
                all.push(Step::Pass { p, stale: false, fails: false, api: Api::ReplyLost });
                all.push(Step::Pass { p, stale: false, fails: false, api: Api::Fails });
                if world.before.as_ref().is_some_and(|b| b.uid == world.object.uid) {
                    all.push(Step::Pass { p, stale: true, fails: false, api: Api::Good });
                }
            }
            Doing::Committed(_) if world.leader != p => all.push(Step::Send(p, Some(Fate::Good))),
            Doing::Committed(_) => {
                let fates =
                    [Fate::Good, Fate::Throttled, Fate::Denied, Fate::Invalid, Fate::ServerRan, Fate::ServerDidNot];
                all.extend(fates.map(|fate| Step::Send(p, Some(fate))));
                all.extend([Step::Send(p, None), Step::SendLate(p)]);
            }
            Doing::Calling(_, answer) => {
                all.push(Step::Answer(p));
                all.extend(answer.as_ref().map(|_| Step::AnswerLost(p)));
            }
            Doing::Recording(..) => all.extend([Api::Good, Api::ReplyLost, Api::Fails].map(|api| Step::Record(p, api))),
        }
        all.push(Step::Crash(p));
    }
    all.push(Step::Move);
    all.extend((0..world.wire.len()).map(Step::Arrive));
    all.extend((0..world.cloud.coming.len()).map(Step::Execute));
    all.extend(world.menu.iter().map(|e| Step::Edit(*e)));
    all.extend(TICKS.map(Step::Wait));
    all
}

/// Every state of the scope, each once; stops at `cap` states.
pub fn explore(first: &World, cap: usize) -> Result<Found, String> {
    let mut found = Found::default();
    let mut seen: HashMap<u128, u32> = HashMap::from([(number(first), 0)]);
    let mut from: Vec<(u32, Option<Step>)> = vec![(0, None)];
    let mut calm: HashSet<u128> = HashSet::new();
    let mut level = vec![(0_u32, first.clone())];
    while !level.is_empty() {
        let mut next_level = Vec::new();
        for (place, world) in level {
            if let Err(wrong) = honest(&world, &mut calm) {
                return Err(story(first, &path(&from, place, None), &format!("then all is honest: {wrong}")));
            }
            for step in steps(&world) {
                let next = match after(&world, step) {
                    Ok(next) => next,
                    Err(wrong) => return Err(story(first, &path(&from, place, Some(step)), &wrong)),
                };
                let Some(next) = next else { continue };
                found.steps += 1;
                found.most = found.most.max(next.ledger.most);
                let id = number(&next);
                if seen.contains_key(&id) {
                    continue;
                }
                let new = u32::try_from(from.len()).unwrap();
                seen.insert(id, new);
                from.push((place, Some(step)));
                next_level.push((new, next));
            }
            if seen.len() >= cap {
                found.cut = true;
                next_level.clear();
                break;
            }
        }
        found.depth += usize::from(!next_level.is_empty());
        level = next_level;
    }
    (found.states, found.honest) = (seen.len(), calm.len());
    Ok(found)
}

fn path(from: &[(u32, Option<Step>)], mut place: u32, last: Option<Step>) -> Vec<Step> {
    let mut steps: Vec<Step> = last.into_iter().collect();
    while let (before, Some(step)) = from[place as usize] {
        steps.push(step);
        place = before;
    }
    steps.reverse();
    steps
}

/// Plays a path; says how it ends.
pub fn play(first: &World, path: &[Step]) -> Result<World, String> {
    let mut world = first.clone();
    for step in path {
        world = after(&world, *step)?.ok_or_else(|| format!("{step:?} is not possible"))?;
    }
    Ok(world)
}

/// A path in words.
fn story(first: &World, path: &[Step], wrong: &str) -> String {
    let mut text = format!("{wrong}\n{:?}\n{path:?}\n", first.profile);
    let mut world = first.clone();
    for step in path {
        let second = (world.now - first.now) / 1_000;
        let _ = write!(text, "{second:>6} s  {}", told(&world, *step));
        match after(&world, *step) {
            Ok(Some(next)) => {
                let _ = writeln!(text, "; {}", stands(&next));
                world = next;
            }
            Ok(None) | Err(_) => {
                let _ = writeln!(text, ": here it goes wrong");
                break;
            }
        }
    }
    text
}

fn told(world: &World, step: Step) -> String {
    let name = |p: usize| world.processes[p].holder();
    match step {
        Step::Pass { p, stale, fails, api } => {
            let view = if stale { " on an old view" } else { "" };
            let read = if fails { ", and its read fails" } else { "" };
            let write = match api {
                Api::Good => "",
                Api::ReplyLost => ", and the reply to its write is lost",
                Api::Fails => ", and its write fails",
            };
            format!("{} passes{view}{read}{write}", name(p))
        }
        Step::Send(p, Some(fate)) => format!("{} sends, and the cloud is {fate:?}", name(p)),
        Step::Send(p, None) => format!("{} sends, and nothing arrives", name(p)),
        Step::SendLate(p) => format!("{} sends, and the copy is under way", name(p)),
        Step::Answer(p) => format!("{} has its answer or gives up", name(p)),
        Step::AnswerLost(p) => format!("the answer to {} is lost", name(p)),
        Step::Record(p, api) => format!("{} writes the outcome ({api:?})", name(p)),
        Step::Crash(p) => format!("{} dies", name(p)),
        Step::Move => "the lease moves".to_owned(),
        Step::Arrive(_) => "a late copy arrives".to_owned(),
        Step::Execute(_) => "the cloud carries out a start".to_owned(),
        Step::Edit(edit) => format!("edit: {edit:?}"),
        Step::Wait(seconds) => format!("{seconds} s pass"),
    }
}

fn stands(world: &World) -> String {
    let status = &world.object.status;
    let pending = status.pending_start.as_ref().map(|p| format!("{}#{}", p.id, p.attempt)).unwrap_or_default();
    let last = status.last_start.as_ref().map(|l| format!("{} {}", l.id, l.outcome)).unwrap_or_default();
    let ran: Vec<String> = world.ledger.starts.iter().map(|s| format!("{} ran {}", s.record().id, s.ran)).collect();
    let ready = status.conditions.first().map(|c| c.reason.clone()).unwrap_or_default();
    format!("pending [{pending}] last [{last}] {ready}; {}", ran.join(", "))
}

/// From here on nothing fails, until nobody has anything to do: then everything has come to its end.
pub fn honest(from: &World, calm: &mut HashSet<u128>) -> Result<(), String> {
    let mut world = from.clone();
    world.budget = super::world::Budget { edits: 0, crashes: 0, lost: 0, troubles: 0, moves: 0, stale: 0, ticks: 0 };
    let (mut way, mut idle) = (Vec::new(), 0);
    for _ in 0..2_000 {
        let id = number(&world);
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
        if number(&world) != id {
            continue;
        }
        let Wait::Until(at) = world.wait_of(world.leader) else { break };
        let until = at.as_millisecond().max(world.now + 1);
        idle += until - world.now;
        world.now = until;
        if idle > 3 * 3_600_000 {
            break;
        }
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
        world.pass(1 - world.leader, false, false, Api::Good)?;
        Arc::make_mut(&mut world.processes[1 - world.leader]).facts.never_sent.clear();
    }
    world.pass(world.leader, false, false, Api::Good)?;
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
        let runs = ["Running", "Finished"].contains(&world.cloud.jobs[job].word);
        let person = from.menu.contains(&Edit::PersonStops);
        return demand(blind || runs || person, || "I5: Ready, and the job does not run".to_owned());
    }
    if let Some(last) = last.filter(|l| l.outcome == "Unknown") {
        let start = world.ledger.known(&last.id).ok_or("I2: an unknown start of nobody")?;
        let already = from.object.status.last_start.as_ref().is_some_and(|l| l.id == last.id);
        let excused = already || start.died || start.attempts.iter().any(|a| a.sent);
        demand(excused, || format!("I2: {} was lost though its process lived and nothing was sent", last.id))?;
    }
    let executes = world.profile.execution != Execution::Never;
    let lost = ready.reason == "NotRunning" && executes && !from.menu.contains(&Edit::PersonStops);
    demand(!lost || last.is_none_or(|l| l.outcome != "Accepted"), || "I2: accepted, ran, and not seen".to_owned())?;
    let ends = condition("Stalled").is_some() || ready.status == ConditionStatus::Unknown;
    demand(ends, || format!("I2: {} is no end", ready.reason))
}
