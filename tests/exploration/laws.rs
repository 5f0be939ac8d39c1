//! What holds of every plan and every status, whatever came before.

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;

use dijob_operator::api::JobStatus;
use dijob_operator::api::condition::ConditionStatus;
use dijob_operator::plan::observed::{Key, Turn};
use dijob_operator::plan::{Action, Observed, Plan, Rest, Stance, Wait, decide};
use jiff::Timestamp;

use super::canon::shape;
use super::support::plan::status_laws;

thread_local! {
    /// Shapes of status that were judged.
    static KNOWN: RefCell<HashSet<u128>> = RefCell::default();
}

fn demand(holds: bool, law: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(law.to_owned()) }
}

/// Deterministic; a start only where one may be; a wait for what can come.
pub fn of_plan(seen: &Observed, plan: &Plan, now: Timestamp) -> Result<(), String> {
    demand(decide(seen, now) == *plan, "the same moment is decided in two ways")?;
    if let Action::Start(_) = plan.action {
        let key = matches!(seen.key, Key::Ready { .. });
        demand(matches!(seen.turn, Turn::Held(_)) && key, "a start without turn or key")?;
        demand(!seen.spec.suspend && !seen.object.deleting, "a start while suspended or deleted")?;
    }
    if plan.action != Action::Nothing {
        return Ok(());
    }
    match plan.wait {
        Wait::Until(at) => {
            demand(at > now, "a wait for what is over")?;
            let longest = now.checked_add(Duration::from_secs(65 * 60)).unwrap();
            demand(at <= longest, "a wait of more than an hour")
        }
        Wait::OnTurn => demand(matches!(seen.turn, Turn::Waiting { .. }), "a wait for a turn that was not asked for"),
        Wait::OnChange => {
            let no_change_comes =
                matches!(plan.stance, Stance::Preparing(_) | Stance::Resolving(_) | Stance::Confirming(_));
            demand(!no_change_comes, "work in hand that waits for nothing")
        }
    }
}

/// The laws of a status, and those that need the plan behind it or the status before.
pub fn of_status(seen: &Observed, status: &JobStatus, plan: &Plan, now: Timestamp) -> Result<(), String> {
    if matches!(plan.stance, Stance::Foreign | Stance::Leaving) {
        return Ok(());
    }
    if KNOWN.with_borrow_mut(|known| known.insert(shape(status, now.as_millisecond()))) {
        status_laws(status)?;
    }
    demand(status.observed_generation == seen.object.generation, "observedGeneration is not the one acted on")?;
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready").ok_or("Ready is missing")?;
    if ready.status == ConditionStatus::True {
        let at_rest = matches!(plan.stance, Stance::Settled(Rest::Running | Rest::Finished | Rest::Accepted));
        demand(at_rest, "Ready though something is due or under way")?;
    }
    for c in &status.conditions {
        let before = seen.conditions.iter().find(|b| b.type_ == c.type_);
        let stays = before.is_some_and(|b| b.status == c.status);
        let moved = before.is_none_or(|b| b.last_transition_time != c.last_transition_time);
        demand(!(stays && moved), "a transition time moved without its status")?;
        let is_now = c.last_transition_time.0.as_second() == now.as_second();
        demand(stays || is_now, "a status moved without its transition time")?;
    }
    Ok(())
}
