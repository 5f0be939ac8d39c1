//! The scopes: what may happen in which cloud, and the tests that explore them.

use dijob_operator::api::{OnUnknown, RealtimeStartSettings};

use super::cloud::{Execution, Profile};
use super::search::explore;
use super::world::{Budget, Edit, World, ordinary};

const USUAL: Profile =
    Profile { started_time: true, unreadable: false, remembers: true, execution: Execution::AtOnce, word: "Stopped" };

#[derive(Clone, Copy)]
enum Kind {
    Ordinary,
    Forced,
    Offset,
    Hold,
}

#[expect(clippy::disallowed_methods, reason = "edge: which scope a person asked for")]
fn is_full() -> bool {
    std::env::var("SCOPE").is_ok_and(|scope| scope == "full")
}

fn first(profile: Profile, menu: &'static [Edit], budget: Budget, kind: Kind) -> World {
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
    World::new(profile, menu, budget, spec)
}

const NONE: Budget = Budget { edits: 0, crashes: 0, lost: 0, troubles: 0, moves: 0, stale: 0, ticks: 0 };

#[expect(clippy::disallowed_methods, reason = "edge: how long a scope takes is told, and decides nothing")]
fn run(name: &str, world: &World) {
    let cap = if is_full() { 30_000_000 } else { 200_000 };
    let begin = std::time::Instant::now();
    match explore(world, cap, is_full()) {
        Ok(found) => println!("{name}: {found:?}, {} ms", begin.elapsed().as_millis()),
        Err(text) => panic!("{name}: {text}"),
    }
}

#[test]
fn trial() {
    let kinds = [("ordinary", Kind::Ordinary), ("forced", Kind::Forced), ("offset", Kind::Offset), ("hold", Kind::Hold)];
    for ticks in 1..4 {
        let budget = Budget { crashes: 1, lost: 1, troubles: 1, moves: 1, ticks, ..NONE };
        for (name, kind) in kinds {
            run(&format!("{name} {ticks}"), &first(USUAL, &[], budget, kind));
        }
    }
}
