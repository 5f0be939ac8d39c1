//! Breadth first through every state of a scope, each once, and the honest world from each.

use std::collections::HashSet;
use std::fmt;

use super::canon::number;
use super::cloud::Fate;
use super::honest::honest;
use super::process::{Api, Doing};
use super::story::{path, story};
use super::world::{Budget, Edit, Touched, World};

/// Seconds of a step of time.
const TICKS: [i64; 4] = [30, 120, 600, 900];

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A process does its next effect.
    Pass {
        /// Which.
        p: usize,
        /// On a view that is so many versions old.
        stale: usize,
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
    /// Distinct states; depth first: distinct but for what is left.
    pub states: usize,
    /// How often a state was entered; 0: each once.
    pub entered: usize,
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

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, entered, steps, depth, honest, most, cut } = self;
        let whole = if *cut { "cut" } else { "complete" };
        write!(
            f,
            "{states} states, {entered} entered, {steps} steps, depth {depth}, {honest} honest, at most {most} executions, {whole}"
        )
    }
}

fn take(left: &mut u8) -> bool {
    let may = *left > 0;
    *left = left.saturating_sub(1);
    may
}

/// Whether a step is within the scope.
fn pay(budget: &mut Budget, step: Step) -> bool {
    match step {
        Step::Pass { stale, fails, api, .. } => {
            (stale == 0 || take(&mut budget.stale))
                && (!fails || take(&mut budget.troubles))
                && (api == Api::Good || take(&mut budget.lost))
        }
        Step::Send(_, Some(fate)) if fate != Fate::Good => take(&mut budget.troubles),
        Step::Send(_, None) | Step::SendLate(_) | Step::AnswerLost(_) => take(&mut budget.lost),
        Step::Record(_, api) => api == Api::Good || take(&mut budget.lost),
        Step::Crash(_) => take(&mut budget.crashes),
        Step::Move => take(&mut budget.moves),
        Step::Edit(_) => take(&mut budget.edits),
        Step::Wait(_) => take(&mut budget.ticks),
        Step::Send(_, Some(_)) | Step::Answer(_) | Step::Arrive(_) | Step::Execute(_) => true,
    }
}

/// A step of a world without faults, edits or passing time.
pub fn is_honest(step: Step) -> bool {
    match step {
        Step::Pass { stale, fails, api, .. } => stale == 0 && !fails && api == Api::Good,
        Step::Send(_, fate) => fate == Some(Fate::Good),
        Step::Record(_, api) => api == Api::Good,
        Step::Answer(_) | Step::Arrive(_) | Step::Execute(_) => true,
        Step::SendLate(_) | Step::AnswerLost(_) | Step::Crash(_) | Step::Move | Step::Edit(_) | Step::Wait(_) => false,
    }
}

/// The state after a step. `None`: it is not possible here.
pub fn after(world: &World, step: Step) -> Result<Option<World>, String> {
    Ok(after_and(world, step)?.map(|(next, _)| next))
}

/// The same, and what a pass touched.
pub fn after_and(world: &World, step: Step) -> Result<Option<(World, Touched)>, String> {
    let mut budget = world.budget;
    if !pay(&mut budget, step) {
        return Ok(None);
    }
    let mut next = world.clone();
    next.now += 1;
    next.budget = budget;
    let (mut done, mut touched) = (true, Touched::default());
    match step {
        Step::Pass { p, stale, fails, api } => {
            touched = next.pass(p, stale, fails, api)?;
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
    Ok(done.then_some((next, touched)))
}

/// All steps that may be possible.
pub fn steps(world: &World) -> Vec<Step> {
    let mut all = Vec::new();
    for p in 0..2 {
        let process = &world.processes[p];
        match &process.doing {
            Doing::Idle => {
                let own = process.facts.unrecorded.is_some() || !process.facts.never_sent.is_empty();
                if world.leader != p && !own {
                    continue; // it has nothing to do, and nothing to lose
                }
                let good = Step::Pass { p, stale: 0, fails: false, api: Api::Good };
                all.push(good);
                all.push(Step::Pass { p, stale: 0, fails: true, api: Api::Good });
                all.push(Step::Pass { p, stale: 0, fails: false, api: Api::ReplyLost });
                all.push(Step::Pass { p, stale: 0, fails: false, api: Api::Fails });
                let seen = world.past.iter().take_while(|v| v.uid == world.object.uid);
                all.extend((1..).zip(seen).map(|(stale, _)| Step::Pass { p, stale, fails: false, api: Api::Good }));
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
pub fn explore(first: &World, cap: usize, loud: bool) -> Result<Found, String> {
    let mut found = Found::default();
    let mut seen: HashSet<u128> = HashSet::from([number(first)]);
    let mut from: Vec<(u32, Option<Step>)> = vec![(0, None)];
    let mut calm: HashSet<u128> = HashSet::new();
    let mut level = vec![(0_u32, first.clone())];
    while !level.is_empty() {
        let mut next_level = Vec::new();
        for (place, world) in level {
            let mut goes_on = false;
            let own = number(&world);
            for step in steps(&world) {
                let next = match after(&world, step) {
                    Ok(next) => next,
                    Err(wrong) => return Err(story(first, &path(&from, place, Some(step)), &wrong)),
                };
                let Some(next) = next else { continue };
                found.steps += 1;
                found.most = found.most.max(next.ledger.most);
                let id = number(&next);
                goes_on |= is_honest(step) && id != own;
                if !seen.insert(id) {
                    continue;
                }
                let new = u32::try_from(from.len()).unwrap();
                from.push((place, Some(step)));
                next_level.push((new, next));
            }
            // Where an honest step leads on, its end is judged from there.
            if !goes_on && let Err(wrong) = honest(&world, &mut calm) {
                return Err(story(first, &path(&from, place, None), &format!("then all is honest: {wrong}")));
            }
            if seen.len() >= cap {
                found.cut = true;
                next_level.clear();
                break;
            }
        }
        found.depth += usize::from(!next_level.is_empty());
        if loud && !next_level.is_empty() {
            println!("  depth {}: {} states, {} new, {} steps", found.depth, seen.len(), next_level.len(), found.steps);
        }
        level = next_level;
    }
    (found.states, found.honest) = (seen.len(), calm.len());
    Ok(found)
}
