//! The whole scope in little memory: depth first, and nowhere twice with no more left than before.
//!
//! What may still happen (the budget) is no part of a place. What can follow with less left can follow with more, so a
//! place is entered again only with something left that no visit before had. Who ends here has seen every state of the
//! scope, or one from which at least the same can follow; and keeps 24 bytes of each.

use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use super::canon::place;
use super::honest::honest;
use super::process::Api;
use super::search::{Found, Step, after_and, explore, is_honest, steps};
use super::story::story;
use super::world::{Budget, Touched, World};

/// The number of a place is a hash already.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 << 8) | u64::from(*b);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Both halves of the number of a place.
type Place = (u64, u64);

/// Places, and what was left when they were entered.
#[derive(Debug, Default)]
struct Visits {
    /// Most places have one.
    one: HashMap<First, u32, BuildHasherDefault<AsItIs>>,
    /// The others, each not less than the rest.
    more: HashMap<Place, Vec<u32>>,
}

/// Hashed by its first half alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct First(Place);

impl std::hash::Hash for First {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0);
    }
}

/// Seven numbers below eight, each in four bits.
fn packed(budget: Budget) -> u32 {
    let Budget { edits, crashes, lost, troubles, moves, stale, ticks } = budget;
    let all = [edits, crashes, lost, troubles, moves, stale, ticks];
    assert!(all.iter().all(|n| *n < 8), "{budget:?} is too large to be packed");
    all.iter().fold(0, |sum, n| (sum << 4) | u32::from(*n))
}

/// `a` is in nothing less than `b`.
fn covers(a: u32, b: u32) -> bool {
    const TOPS: u32 = 0x8888_8888;
    ((a | TOPS) - b) & TOPS == TOPS
}

impl Visits {
    /// Whether it is worth entering `place` with `left`; if so, it is noted.
    fn enter(&mut self, place: Place, left: u32) -> bool {
        let Some(first) = self.one.get_mut(&First(place)) else {
            self.one.insert(First(place), left);
            return true;
        };
        let others = self.more.get(&place);
        if covers(*first, left) || others.is_some_and(|all| all.iter().any(|n| covers(*n, left))) {
            return false;
        }
        if covers(left, *first) {
            *first = left;
        } else {
            let all = self.more.entry(place).or_default();
            all.retain(|n| !covers(left, *n));
            all.push(left);
        }
        true
    }
}

/// A state whose steps are being taken.
struct Visit {
    world: World,
    place: Place,
    came: Option<Step>,
    steps: std::vec::IntoIter<Step>,
    goes_on: bool,
    /// What an undisturbed pass of each process touches.
    touched: [Touched; 2],
}

impl Visit {
    /// A pass that reads nothing has no read that fails, and one that writes nothing no write.
    fn is_possible(&self, step: Step) -> bool {
        let Step::Pass { p, stale: 0, fails, api } = step else { return true };
        let Touched { read, wrote } = self.touched[p];
        is_honest(step) || ((read || !fails) && (wrote || api == Api::Good))
    }
}

fn visit(world: World, place: Place, came: Option<Step>) -> Visit {
    let steps = steps(&world).into_iter();
    Visit { world, place, came, steps, goes_on: false, touched: [Touched::default(); 2] }
}

fn path(stack: &[Visit], last: Option<Step>) -> Vec<Step> {
    stack.iter().filter_map(|v| v.came).chain(last).collect()
}

/// Every state of the scope; stops at `cap` places. A violation is told by its shortest path, if that is near.
pub fn sweep(first: &World, cap: usize, loud: bool) -> Result<Found, String> {
    swept(first, cap, loud).map_err(|(way, wrong)| match explore(first, NEAR, false) {
        Err(shortest) => shortest,
        Ok(_) => story(first, &way, &wrong),
    })
}

/// So many states are searched for a shorter path.
const NEAR: usize = 1_000_000;

fn swept(first: &World, cap: usize, loud: bool) -> Result<Found, (Vec<Step>, String)> {
    let mut found = Found::default();
    let mut visits = Visits::default();
    let mut calm: HashSet<u128> = HashSet::new();
    let start = place(first);
    visits.enter(start, packed(first.budget));
    let mut stack = vec![visit(first.clone(), start, None)];
    while let Some(top) = stack.last_mut() {
        let Some(step) = top.steps.next() else {
            // Where an honest step leads on, its end is judged from there.
            if !top.goes_on
                && let Err(wrong) = honest(&top.world, &mut calm)
            {
                return Err((path(&stack, None), format!("then all is honest: {wrong}")));
            }
            found.entered += 1;
            stack.pop();
            continue;
        };
        if !top.is_possible(step) {
            continue;
        }
        let next = match after_and(&top.world, step) {
            Ok(next) => next,
            Err(wrong) => return Err((path(&stack, Some(step)), wrong)),
        };
        let Some((next, touched)) = next else { continue };
        if let Step::Pass { p, .. } = step
            && is_honest(step)
        {
            top.touched[p] = touched;
        }
        found.steps += 1;
        found.most = found.most.max(next.ledger.most);
        let to = place(&next);
        top.goes_on |= is_honest(step) && to != top.place;
        if visits.enter(to, packed(next.budget)) {
            stack.push(visit(next, to, Some(step)));
            found.depth = found.depth.max(stack.len() - 1);
        }
        if visits.one.len() >= cap {
            found.cut = true;
            break;
        }
        if loud && found.steps % 2_000_000 == 0 {
            println!("  {} places, {} entered, {} steps", visits.one.len(), found.entered, found.steps);
        }
    }
    (found.states, found.honest) = (visits.one.len(), calm.len());
    Ok(found)
}

#[test]
fn a_place_is_entered_again_only_with_something_more_left() {
    let budget = |edits, ticks| Budget { edits, ticks, crashes: 1, lost: 0, troubles: 0, moves: 0, stale: 7 };
    let mut visits = Visits::default();
    let mut enter = |edits, ticks| visits.enter((1, 2), packed(budget(edits, ticks)));
    assert!(enter(1, 1));
    assert!(!enter(1, 1) && !enter(0, 1) && !enter(1, 0) && !enter(0, 0));
    assert!(enter(0, 2), "less of one, more of another");
    assert!(!enter(0, 2));
    assert!(enter(2, 0));
    assert!(enter(2, 2), "more than all before");
    assert!(!enter(1, 2) && !enter(2, 1) && !enter(2, 2));
    assert!(visits.enter((1, 3), 0), "another place");
}
