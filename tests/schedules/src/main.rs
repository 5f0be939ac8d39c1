//! `cargo simulate`.
use std::time::Duration;
use schedules::story::{Schedule, Wishes};
fn main() {
    let seed = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
    let record = schedules::world::play(Schedule::of(seed, &Wishes::default()), Duration::ZERO);
    for line in &record.story { println!("{line}"); }
    println!("{:?} {:?} {:?}", record.schedule.story, record.schedule.profile, record.wrong);
    for c in record.history.iter().rev().filter(|c| &*c.resource == "dataintegrationjobs").take(1) { println!("{}", c.object()["status"]); }
}
