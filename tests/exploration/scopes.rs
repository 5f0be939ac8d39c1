//! The scopes: what may happen in which cloud, and the tests that explore them.

use std::time::Instant;

use dijob_operator::api::{OnUnknown, RealtimeStartSettings};

use super::cloud::{Execution, Profile};
use super::deep::sweep;
use super::search::explore;
use super::world::{Budget, Edit, World, ordinary};

/// The cloud as its documents describe it.
const USUAL: Profile =
    Profile { started_time: true, unreadable: false, remembers: true, execution: Execution::AtOnce, word: "Stopped" };
/// `StartedTime` is not told.
const UNTIMED: Profile = Profile { started_time: false, ..USUAL };
/// Nonces are not remembered.
const FORGETFUL: Profile = Profile { remembers: false, ..USUAL };
/// Reading is refused.
const UNREADABLE: Profile = Profile { unreadable: true, ..USUAL };
/// Starts take effect at any later step.
const LATE: Profile = Profile { execution: Execution::Late, ..USUAL };
/// Starts are accepted and take no effect; the job was never started.
const NEVER: Profile = Profile { execution: Execution::Never, word: "Initialized", ..USUAL };

/// What the first spec asks for.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Ordinary,
    Forced,
    Offset,
    Hold,
}

/// Edits of spec and annotations, and a deletion: the first of [`ALL`].
const ASKED: &[Edit] = ALL.split_at(11).0;
/// The edits of the largest scope.
const FEW: &[Edit] = &[Edit::Failover, Edit::Force, Edit::Tidy, Edit::Token];
/// Every edit there is.
const ALL: &[Edit] = &[
    Edit::Failover,
    Edit::Offset,
    Edit::Force,
    Edit::Tidy,
    Edit::Token,
    Edit::ForcedToken,
    Edit::Withdraw,
    Edit::Suspend,
    Edit::Revert,
    Edit::OtherJob,
    Edit::Delete,
    Edit::Recreate,
    Edit::StatusLost,
    Edit::RolledBack,
    Edit::Rotate,
    Edit::KeyGone,
    Edit::AccountMoves,
    Edit::PersonStarts,
    Edit::PersonStops,
];
/// What is lost, restored or made again.
const RESTORED: &[Edit] = &[Edit::Recreate, Edit::StatusLost, Edit::RolledBack, Edit::Token, Edit::Force];
/// What changes around the object.
const AROUND: &[Edit] =
    &[Edit::Rotate, Edit::KeyGone, Edit::AccountMoves, Edit::PersonStarts, Edit::PersonStops, Edit::Token];

/// One scope: its cloud, its edits, and what may happen.
struct Scope {
    name: &'static str,
    profile: Profile,
    menu: &'static [Edit],
    budget: Budget,
}

/// Edits, deaths, losses, refusals, moves of the lease, old views, steps of time.
const fn of([edits, crashes, lost, troubles, moves, stale, ticks]: [u8; 7]) -> Budget {
    Budget { edits, crashes, lost, troubles, moves, stale, ticks }
}

const fn scope(name: &'static str, profile: Profile, menu: &'static [Edit], budget: [u8; 7]) -> Scope {
    Scope { name, profile, menu, budget: of(budget) }
}

/// The part that every run explores of an ordinary start.
const PART: &[Scope] = &[
    scope("faults", USUAL, &[], [0, 1, 1, 0, 0, 0, 2]),
    scope("refusals", USUAL, &[], [0, 0, 0, 2, 0, 1, 1]),
    scope("two leaders", USUAL, &[], [0, 0, 1, 0, 1, 0, 1]),
    scope("untimed", UNTIMED, &[], [0, 0, 1, 0, 0, 0, 2]),
    scope("forgetful", FORGETFUL, &[], [0, 0, 1, 0, 0, 0, 2]),
    scope("unreadable", UNREADABLE, &[], [0, 1, 1, 0, 0, 0, 1]),
    scope("late", LATE, &[], [0, 1, 0, 0, 0, 0, 2]),
    scope("never", NEVER, &[], [0, 1, 0, 0, 0, 0, 2]),
    scope("edits", USUAL, ASKED, [1, 0, 1, 0, 0, 0, 1]),
    scope("restored", USUAL, RESTORED, [1, 1, 0, 0, 0, 0, 1]),
    scope("around", USUAL, AROUND, [1, 0, 1, 0, 0, 0, 0]),
];

/// The part that every run explores of the other starts.
const PART_OF_OTHERS: &[Scope] = &[
    scope("faults", USUAL, &[], [0, 1, 1, 0, 0, 0, 1]),
    scope("refusals", USUAL, &[], [0, 0, 0, 1, 0, 1, 1]),
    scope("late", LATE, &[], [0, 1, 0, 0, 0, 0, 1]),
    scope("edits", USUAL, ASKED, [1, 0, 1, 0, 0, 0, 0]),
    scope("restored", USUAL, RESTORED, [1, 1, 0, 0, 0, 0, 0]),
];

/// The whole: first what the plan of the proof calls the small scope, with as much time as it can have.
const WHOLE: &[Scope] = &[
    scope("two of each", USUAL, FEW, [2, 2, 2, 0, 0, 0, 1]),
    scope("two of every edit", USUAL, ALL, [2, 2, 2, 0, 0, 0, 0]),
    scope("untimed", UNTIMED, &[], [0, 1, 1, 1, 0, 0, 2]),
    scope("forgetful", FORGETFUL, &[], [0, 1, 1, 1, 0, 0, 2]),
    scope("unreadable", UNREADABLE, &[], [0, 1, 1, 1, 0, 0, 2]),
    scope("late", LATE, &[], [0, 1, 1, 1, 0, 0, 2]),
    scope("never", NEVER, &[], [0, 1, 1, 1, 0, 0, 2]),
    scope("faults", USUAL, &[], [0, 2, 1, 1, 1, 0, 1]),
    scope("losses", USUAL, &[], [0, 1, 2, 0, 0, 0, 3]),
    scope("refusals", USUAL, &[], [0, 1, 0, 2, 0, 1, 2]),
    scope("two leaders", USUAL, &[], [0, 0, 1, 0, 2, 1, 1]),
    scope("old views", USUAL, &[], [0, 1, 1, 0, 1, 3, 1]),
    scope("edits", USUAL, ASKED, [2, 0, 0, 0, 0, 0, 2]),
    scope("edits and faults", USUAL, ASKED, [1, 1, 1, 0, 0, 0, 2]),
    scope("restored", USUAL, RESTORED, [1, 1, 1, 0, 1, 0, 1]),
    scope("around", USUAL, AROUND, [1, 1, 1, 0, 0, 0, 1]),
    scope("two of each and more time", USUAL, FEW, [2, 2, 2, 0, 0, 0, 2]),
];

#[expect(clippy::disallowed_methods, reason = "edge: which scope a person asked for")]
fn asked_for() -> Option<String> {
    std::env::var("SCOPE").ok()
}

fn is_full() -> bool {
    asked_for().is_some()
}

/// `SCOPE=full` explores all, any other value the one of that name.
fn is_asked(scope: &Scope) -> bool {
    asked_for().is_none_or(|name| name == "full" || name == scope.name)
}

fn first(scope: &Scope, kind: Kind) -> World {
    let mut spec = ordinary();
    match kind {
        Kind::Ordinary => {}
        Kind::Forced => spec.force_to_rerun = true,
        Kind::Offset => {
            let settings = RealtimeStartSettings { start_time: Some(1_600_000_000), failover_settings: None };
            spec.realtime_start_settings = Some(settings);
        }
        Kind::Hold => spec.on_unknown = OnUnknown::Hold,
    }
    World::new(scope.profile, scope.menu, scope.budget, spec)
}

/// States at which a scope is cut, and says so: memory ends there.
const CAP: usize = 60_000_000;

#[expect(clippy::disallowed_methods, reason = "edge: how long a scope took is told, and decides nothing")]
fn explored(kind: Kind) {
    let part = match kind {
        Kind::Ordinary => PART,
        Kind::Forced | Kind::Offset | Kind::Hold => PART_OF_OTHERS,
    };
    let all = if is_full() { WHOLE } else { part };
    for scope in all.iter().filter(|s| is_asked(s)) {
        let begin = Instant::now();
        let world = first(scope, kind);
        match if is_full() { sweep(&world, CAP, true) } else { explore(&world, CAP, false) } {
            Ok(found) => {
                println!("{kind:?}, {}: {found} in {} ms", scope.name, begin.elapsed().as_millis());
                assert!(!found.cut || is_full(), "{kind:?}, {} is larger than it may be", scope.name);
            }
            Err(text) => panic!("{kind:?}, {}: {text}", scope.name),
        }
    }
}

/// Covers: 1u, 2u, 3u, 4u, 6u, 7u, 8u, 14u, 27u, 44u.
#[test]
fn every_path_of_an_ordinary_start_keeps_the_promises() {
    explored(Kind::Ordinary);
}

/// Covers: 1u, 2u, 3u, 4u, 6u, 27u, 44u.
#[test]
fn every_path_of_a_forced_start_keeps_the_promises() {
    explored(Kind::Forced);
}

#[test]
fn every_path_of_a_start_that_moves_the_offset_keeps_the_promises() {
    explored(Kind::Offset);
}

#[test]
fn every_path_of_a_start_that_is_held_keeps_the_promises() {
    explored(Kind::Hold);
}
