//! The pace against each kind of window, alone and beside a neighbour: the measures P1 to P3, from 1,000 starts at once.
//! `cargo test --test quota pace -- --nocapture` prints them.

use super::*;

/// Means over the seeds.
#[derive(Clone, Copy, Debug, Default)]
struct Measures {
    /// P1: what was accepted, over what the limit allows in that time.
    goodput: f64,
    /// P2: refused calls per accepted one.
    refused: f64,
    /// P3: the share of the neighbour's calls that was refused.
    neighbour: f64,
}

const SEEDS: u64 = 5;

/// The neighbour draws 40 % of the limit.
fn measure(limit: usize, window: Window, seed: u64, has_neighbour: bool) -> Measures {
    let limits = if limit == 5 { standard() } else { enterprise() };
    let mut cloud = Cloud::new(limit, window);
    let interval = seconds(1.0 / (0.4 * count(limit)));
    // With windows that turn at another fifth of a second for each seed, the neighbour comes at all times of the window.
    let next = interval.mul_f64(f64::from(u32::try_from(seed).unwrap()) / 5.0);
    cloud.neighbour = has_neighbour.then_some(Neighbour { interval, next, calls: 0, refused: 0 });
    let mut world = World::new(limits, cloud, CALM, seed);
    (0..1_000).for_each(|n| world.ask(&format!("a/{n}"), Lane::Start));
    world.run(seconds(6_000.0));
    let accepted = world.accepted().count();
    assert_eq!(accepted, 1_000, "all starts end");
    let neighbour = world.cloud.neighbour.as_ref().map_or(0.0, |n| count(n.refused) / count(n.calls));
    let refused = count(world.ledger.len() - accepted) / count(accepted);
    Measures { goodput: world.goodput() / count(limit), refused, neighbour }
}

fn mean(limit: usize, window: impl Fn(u64) -> Window, has_neighbour: bool) -> Measures {
    let mut mean = Measures::default();
    for seed in 0..SEEDS {
        let one = measure(limit, window(seed), seed, has_neighbour);
        let share = |value: f64| value / f64::from(u32::try_from(SEEDS).unwrap());
        mean.goodput += share(one.goodput);
        mean.refused += share(one.refused);
        mean.neighbour += share(one.neighbour);
    }
    mean
}

/// What a window must allow: goodput and refused calls alone; goodput, refused and the neighbour's refused beside it.
struct Bounds {
    limit: usize,
    alone: [f64; 2],
    beside: [f64; 3],
}

fn check(name: &str, window: impl Fn(u64) -> Window, bounds: [Bounds; 2]) {
    for Bounds { limit, alone, beside } in bounds {
        let by_itself = mean(limit, &window, false);
        println!("{name} {limit}/s alone: {by_itself:.4?}");
        assert!(by_itself.goodput >= alone[0] && by_itself.refused <= alone[1], "{name} {limit}/s: {by_itself:?}");
        let both = mean(limit, &window, true);
        println!("{name} {limit}/s beside a neighbour: {both:.4?}");
        let holds = both.goodput >= beside[0] && both.refused <= beside[1] && both.neighbour <= beside[2];
        assert!(holds, "{name} {limit}/s beside a neighbour: {both:?}");
    }
}

#[test]
fn a_fixed_window_gives_96_percent_and_a_neighbour_keeps_95() {
    let window = |seed: u64| Window::Fixed(Duration::from_millis(seed * 200));
    let at_20 = Bounds { limit: 20, alone: [0.96, 0.01], beside: [0.58, 0.02, 0.05] };
    let at_5 = Bounds { limit: 5, alone: [0.96, 0.01], beside: [0.58, 0.05, 0.05] };
    check("fixed window", window, [at_20, at_5]);
}

#[test]
fn a_sliding_log_gives_92_percent_and_a_neighbour_keeps_95() {
    let at_20 = Bounds { limit: 20, alone: [0.92, 0.01], beside: [0.56, 0.02, 0.05] };
    let at_5 = Bounds { limit: 5, alone: [0.92, 0.01], beside: [0.55, 0.05, 0.05] };
    check("sliding log", |_| Window::Sliding, [at_20, at_5]);
}

/// Two calls must be a whole interval apart, and each of ours is late by its own jitter of up to 35 ms: of 50 ms that
/// leaves less than of 200 ms. A neighbour at even times leaves room for little: beside it, whatever we are given is taken
/// from it. A rule that pauses for a second after each refusal spares it (a tenth refused at 20/s, instead of a quarter)
/// by giving up: 0.07 of the limit instead of 0.2, and half a refusal for each call accepted.
#[test]
fn a_bucket_without_burst_gives_what_jitter_leaves_of_its_intervals() {
    let at_20 = Bounds { limit: 20, alone: [0.62, 0.02], beside: [0.18, 0.18, 0.32] };
    let at_5 = Bounds { limit: 5, alone: [0.85, 0.02], beside: [0.34, 0.15, 0.1] };
    check("bucket", |_| Window::Bucket, [at_20, at_5]);
}
