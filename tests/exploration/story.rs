//! A path in words.

use std::fmt::Write as _;

use super::process::Api;
use super::search::{Step, after};
use super::world::World;

/// The steps to a place.
pub fn path(from: &[(u32, Option<Step>)], mut place: u32, last: Option<Step>) -> Vec<Step> {
    let mut steps: Vec<Step> = last.into_iter().collect();
    while let (before, Some(step)) = from[place as usize] {
        steps.push(step);
        place = before;
    }
    steps.reverse();
    steps
}

/// What happens on a path.
pub fn story(first: &World, path: &[Step], wrong: &str) -> String {
    let mut text = format!("{wrong}\n{:?}\n{path:?}\n", first.profile);
    let mut world = first.clone();
    for step in path {
        let second = (world.now - first.now) / 1_000;
        let _ = write!(text, "{second:>6} s  {}", told(&world, *step));
        let Ok(Some(next)) = after(&world, *step) else {
            let _ = writeln!(text, ": here it goes wrong");
            break;
        };
        let _ = writeln!(text, "; {}", stands(&next));
        world = next;
    }
    text
}

fn told(world: &World, step: Step) -> String {
    let name = |p: usize| world.processes[p].holder();
    match step {
        Step::Pass { p, stale, fails, api } => {
            let view = ["", " on an old view", " on a very old view"][stale];
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
