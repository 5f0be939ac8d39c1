//! What the cloud is like: one setting of its switches for each profile.
//!
//! **May touch:** its arguments.

use jiff::SignedDuration;
use simulator::{
    Course, Denial, Hint, JobRules, Limits, NonceScope, Permissions, Rate, Refusal, StartOnRunning, StartedTime,
    Switches, Window,
};

use crate::chance::Chance;
use crate::story::Profile;

/// The switches of a profile.
#[must_use]
pub fn switches(profile: Profile, chance: &mut Chance) -> Switches {
    let harsh = JobRules {
        start_on_running: StartOnRunning::Restart,
        started_time: StartedTime::Absent,
        running_after: SignedDuration::from_mins(5),
        starting_word: Some("Preparing".to_owned()),
        course: Course::Runs,
        stopped_word: "Stop".to_owned(),
        ..JobRules::default()
    };
    match profile {
        Profile::Default => Switches::default(),
        Profile::Harsh => Switches {
            rules: harsh,
            signature_age: None,
            nonce_memory: None,
            nonce_scope: NonceScope::AllKeys,
            throttled_burns_nonce: true,
            limits: Limits {
                window: Window::SlidingLog,
                refused_count: true,
                refusal: Refusal::of("9990020002"),
                hint: Hint::None,
                ..Limits::enterprise()
            },
            ..Switches::default()
        },
        Profile::Mixture => mixture(chance),
    }
}

fn mixture(chance: &mut Chance) -> Switches {
    let mins = SignedDuration::from_mins;
    let error = Refusal::of("InvalidJobStatus");
    let starts = [StartOnRunning::NoOp, StartOnRunning::Error(error), StartOnRunning::Restart];
    let shows = [
        StartedTime::AtAccept,
        StartedTime::WhenRunning,
        StartedTime::Lagging(SignedDuration::from_secs(40)),
        StartedTime::Absent,
    ];
    let fails = Course::Fails { message: "no such table".to_owned() };
    let courses = [Course::Runs, Course::Runs, Course::Runs, fails, Course::Finishes(mins(3))];
    let words = [None, None, Some("Preparing".to_owned()), Some("Initialized".to_owned())];
    let rules = JobRules {
        start_on_running: chance.pick(&starts, StartOnRunning::NoOp),
        started_time: chance.pick(&shows, StartedTime::AtAccept),
        running_after: SignedDuration::from_secs(chance.pick(&[1, 30, 300], 1)),
        starting_word: chance.pick(&words, None),
        course: chance.pick(&courses, Course::Runs),
        stopped_word: chance.pick(&["Stopped", "Stop"], "Stopped").to_owned(),
        ..JobRules::default()
    };
    let refusal = [
        Refusal::of("Throttling.Api"),
        Refusal::of("Throttling.User").with_status(400),
        Refusal::of("9990020002"),
        Refusal::of("9990020002").with_status(200),
    ];
    let garbage = Hint::Header { name: "x-acs-retry-after".to_owned(), value: "1000000000000000".to_owned() };
    let hints = [Hint::RetryAfter(None), Hint::RateLimit(None), Hint::None, Hint::RetryAfter(Some(-5)), garbage];
    let limits = Limits {
        rate: chance.pick(&[Rate::Split { reads: 50, writes: 20 }, Rate::Total(5)], Rate::Unlimited),
        window: chance.pick(&[Window::FixedSecond, Window::TokenBucket, Window::SlidingLog], Window::FixedSecond),
        refused_count: chance.percent(50),
        refusal: chance.pick(&refusal, Refusal::of("Throttling.Api")),
        hint: chance.pick(&hints, Hint::None),
        ..Limits::enterprise()
    };
    let allowed = [
        Permissions::All,
        Permissions::All,
        Permissions::All,
        Permissions::NoReads(Denial::Forbidden),
        Permissions::StartOnly(Denial::Html),
    ];
    let missing =
        [Refusal::of("500130"), Refusal::of("500130").with_status(400), Refusal::of("500130").with_status(500)];
    Switches {
        rules,
        no_such_job: chance.pick(&missing, Refusal::of("500130")),
        permissions: chance.pick(&allowed, Permissions::All),
        limits,
        clock_offset: SignedDuration::from_secs(chance.pick(&[0, 0, 30, -90], 0)),
        signature_age: chance.pick(&[Some(mins(15)), Some(mins(5)), None], None),
        nonce_memory: chance.pick(&[Some(mins(15)), Some(mins(31)), None], None),
        nonce_scope: chance.pick(&[NonceScope::PerKey, NonceScope::AllKeys], NonceScope::PerKey),
        throttled_burns_nonce: chance.percent(50),
        ..Switches::default()
    }
}
