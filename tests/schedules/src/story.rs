//! What people do, and in which cloud: all of it from the seed.
//!
//! **May touch:** its arguments.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Map, Value, json};
use simulator::{Console, JobPatch, JobStatus, Switches};

use crate::chance::Chance;
use crate::clouds::switches;
use crate::deeds::{edits, settings};
use crate::faults::{Faults, Kind, Place};
use crate::scene::Act;
use crate::weather::Spell;

/// What a schedule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Story {
    /// A job is applied.
    FirstStart,
    /// Start settings change.
    SpecChange,
    /// A token asks for one more start.
    Rerun,
    /// A token asks for a start that redoes everything.
    ForcedRerun,
    /// The access key is replaced.
    KeyRotation,
    /// Leaders die.
    FailOver,
    /// The object is deleted while its job is being started.
    DeletedWhileStarting,
    /// Deleted, and made again under the same name.
    MadeAgain,
    /// Restored without its status.
    RestoredBare,
    /// Restored with the status of the object before it.
    RestoredWithStatus,
    /// Twenty jobs in three namespaces.
    Fleet,
    /// A spec that changes many times a second.
    Flapping,
    /// Start settings change while processes are asked to end, at any step.
    OrderlyEnd,
    /// The account takes another version of the API or another signature, while jobs are started.
    AccountSwitched,
    /// The calls of a day are used up while jobs are started, and the day turns a little later.
    DayExhausted,
}

/// Those that exist.
pub const STORIES: &[Story] = &[
    Story::FirstStart,
    Story::SpecChange,
    Story::Rerun,
    Story::ForcedRerun,
    Story::KeyRotation,
    Story::FailOver,
    Story::DeletedWhileStarting,
    Story::MadeAgain,
    Story::RestoredBare,
    Story::RestoredWithStatus,
    Story::Fleet,
    Story::Flapping,
    Story::OrderlyEnd,
    Story::AccountSwitched,
    Story::DayExhausted,
];

/// Calls of the day that is used up: enough for a few starts.
const FEW: u32 = 10;
/// Calls of a day that no schedule uses up.
const MANY: u32 = 100_000;
/// When a day begins in UTC+8, in seconds after midnight UTC.
const DAY_TURNS: i64 = 16 * 3600;

/// Those among which a seed draws. What came later has a draw of its own, so that older seeds stay what they are.
const DRAWN: usize = 12;

/// Those that wait for features that are not built yet.
pub const WAITING: &[&str] = &["stop, then start", "drift", "two objects name one job"];

/// What the cloud is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// The kindest value of each unknown.
    Default,
    /// The worst one, but jobs can be read.
    Harsh,
    /// Any value of each.
    Mixture,
}

/// Version of the API and signature, as an account states them.
pub type Way = (&'static str, &'static str);

/// All of them, the default first.
pub const WAYS: [Way; 4] = [
    ("2020-05-18", "HMAC-SHA1"),
    ("2024-05-18", "HMAC-SHA1"),
    ("2020-05-18", "ACS3-HMAC-SHA256"),
    ("2024-05-18", "ACS3-HMAC-SHA256"),
];

/// One thing that people do.
#[derive(Clone, Debug)]
pub enum Edit {
    /// `kubectl apply` of a new object.
    Create(usize),
    /// A merge patch of the object.
    Patch(usize, Value),
    /// `kubectl delete`.
    Delete(usize),
    /// The status of the first object under this name is written into the one that is there.
    RestoreStatus(usize),
    /// The Secret and the key in the cloud are replaced.
    Rotate(usize),
    /// A person in the console.
    Console(usize, Console),
    /// The account of the job is called in another way.
    Switch(usize, Way),
    /// It may make so many calls a day.
    Quota(usize, u32),
    /// What only a test does.
    Act(Act),
}

/// One job of the schedule.
#[derive(Clone, Debug)]
pub struct JobPlan {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its number in the cloud.
    pub id: i64,
    /// What is applied.
    pub object: Value,
    /// How the job stands in the cloud before.
    pub before: JobPatch,
}

/// A schedule: everything that is not decided by the operator.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The seed.
    pub seed: u64,
    /// What it is about.
    pub story: Story,
    /// What the cloud is like.
    pub profile: Profile,
    /// How accounts have it called at first.
    pub way: Way,
    /// Processes that run at once.
    pub replicas: u64,
    /// They elect a leader.
    pub election: bool,
    /// The jobs.
    pub jobs: Vec<JobPlan>,
    /// What people do, and when.
    pub edits: Vec<(Duration, Edit)>,
    /// The faults.
    pub faults: Faults,
    /// How long faults go on.
    pub faulty: Duration,
    /// The cloud.
    pub switches: Switches,
    /// Calls of a day to which its accounts limit themselves.
    pub calls_per_day: Option<u32>,
    /// Seconds after midnight UTC at which it begins.
    pub begins: i64,
    /// So many of a thousand seconds are gained by the clocks of API server and cloud on those of the processes.
    pub drift: i64,
    /// The wall clock of each process at its birth, against the true time; absent: from the seed.
    pub clocks: Option<fn(u64) -> SignedDuration>,
    /// What is wrong with the API server, besides `faults`.
    pub spells: Vec<Spell>,
    /// Written down rather than drawn: its requests are kept.
    pub scripted: bool,
}

/// What a test demands of the seeds that it plays.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// This story.
    pub story: Option<Story>,
    /// This cloud.
    pub profile: Option<Profile>,
    /// Only these faults.
    pub only: Option<Vec<Kind>>,
    /// So many of a thousand exchanges with the API server, the cloud and of events are struck.
    pub rates: Option<(u64, u64, u64)>,
    /// With or without an election.
    pub election: Option<bool>,
    /// Faults and edits that are left out.
    pub without: BTreeSet<Place>,
    /// As seeds were before accounts could choose how the cloud is called.
    pub one_way: bool,
}

impl Schedule {
    /// Whether looks may be made in the version that tells no `StartedTime`.
    #[must_use]
    pub fn hides_started_time(&self) -> bool {
        let newer = |way: &Way| way.0 == "2024-05-18";
        newer(&self.way) || self.switches_to().any(|(_, way)| newer(&way))
    }

    /// When accounts are called in another way, and which.
    pub fn switches_to(&self) -> impl Iterator<Item = (Duration, Way)> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others leave accounts alone")]
        self.edits.iter().filter_map(|(at, edit)| match edit {
            Edit::Switch(_, way) => Some((*at, *way)),
            _ => None,
        })
    }

    /// The schedule of this seed.
    #[must_use]
    pub fn of(seed: u64, wishes: &Wishes) -> Self {
        let mut chance = Chance::about(&[seed, 1]);
        let story = story(seed, wishes, &mut chance);
        let mut ways = Chance::about(&[seed, 8]);
        let chosen = ways.percent(40) && !wishes.one_way;
        let way = if chosen { ways.pick(&WAYS, WAYS[0]) } else { WAYS[0] };
        let clouds = [Profile::Default, Profile::Harsh, Profile::Mixture, Profile::Mixture];
        let profile = wishes.profile.unwrap_or(chance.pick(&clouds, Profile::Default));
        let election = wishes.election.unwrap_or(story == Story::FailOver || chance.percent(20));
        let replicas = if election { 1 + chance.below(3) } else { 1 };
        let span = Duration::from_secs(chance.pick(&[60, 120, 240, 900], 60));
        let (api, cloud, event) = wishes.rates.unwrap_or_else(|| {
            let mut of = |rates: &[u64]| chance.pick(rates, 0);
            (of(&[0, 20, 60, 200]), of(&[0, 100, 300, 600]), of(&[0, 0, 50, 200]))
        });
        let faults = Faults {
            seed,
            api,
            lease: api / 8,
            cloud,
            event,
            ends: if story == Story::OrderlyEnd { 60 } else { 0 },
            only: wishes.only.clone(),
            without: wishes.without.clone(),
        };
        let jobs = jobs(story, &mut chance);
        let mut edits = edits(story, &jobs, span, &mut chance);
        let mut nth = 0;
        edits.retain(|_| {
            nth += 1;
            !wishes.without.contains(&Place { process: 0, nth, event: 0 })
        });
        edits.sort_by_key(|(at, _)| *at);
        let switches = switches(profile, &mut chance);
        let (calls_per_day, begins) = day(seed, story, wishes);
        if story == Story::DayExhausted {
            let more = u64::try_from(DAY_TURNS - begins).unwrap_or(0) + 120;
            edits.push((Duration::from_secs(more), Edit::Quota(0, MANY)));
            edits.sort_by_key(|(at, _)| *at);
        }
        Self {
            seed,
            story,
            profile,
            way,
            replicas,
            election,
            jobs,
            edits,
            faults,
            faulty: span,
            switches,
            calls_per_day,
            begins,
            drift: 0,
            clocks: None,
            spells: Vec::new(),
            scripted: false,
        }
    }
}

fn story(seed: u64, wishes: &Wishes, chance: &mut Chance) -> Story {
    let drawn = chance.pick(STORIES.get(..DRAWN).unwrap_or_default(), Story::FirstStart);
    let drawn = if Chance::about(&[seed, 6]).percent(7) { Story::OrderlyEnd } else { drawn };
    let is_switched = !wishes.one_way && Chance::about(&[seed, 7]).percent(8);
    let drawn = if is_switched { Story::AccountSwitched } else { drawn };
    let is_short = !wishes.one_way && Chance::about(&[seed, 9]).percent(3);
    wishes.story.unwrap_or(if is_short { Story::DayExhausted } else { drawn })
}

/// Calls of a day to which the accounts limit themselves, and when it all begins: shortly before the turn of a day that is
/// used up, or in one so long that no call is missed.
fn day(seed: u64, story: Story, wishes: &Wishes) -> (Option<u32>, i64) {
    if story == Story::DayExhausted {
        let before = Chance::about(&[seed, 10]).below(900);
        return (Some(FEW), DAY_TURNS - i64::try_from(before).unwrap_or(0));
    }
    (Some(MANY).filter(|_| seed % 2 == 1 && !wishes.one_way), 0)
}

fn jobs(story: Story, chance: &mut Chance) -> Vec<JobPlan> {
    let few = if story == Story::DayExhausted { 4 } else { 1 };
    let count = if story == Story::Fleet { 20 } else { few };
    (0..count).map(|n| job(n, story, chance)).collect()
}

fn job(n: i64, story: Story, chance: &mut Chance) -> JobPlan {
    let team = if story == Story::DayExhausted { 0 } else { n % 3 };
    let (namespace, name, id) = (format!("team-{team}"), format!("job-{n}"), 7000 + n);
    let mut spec =
        Map::from_iter([("diJobId".to_owned(), json!(id)), ("accountRef".to_owned(), json!({ "name": "main" }))]);
    if chance.percent(40) {
        spec.insert("realtimeStartSettings".to_owned(), settings(chance));
    }
    let forces = story == Story::ForcedRerun && chance.percent(30);
    if forces || chance.percent(10) {
        spec.insert("forceToRerun".to_owned(), json!(true));
    }
    if chance.percent(15) {
        spec.insert("onUnknown".to_owned(), json!("Hold"));
    }
    let object = json!({
        "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob",
        "metadata": { "name": name, "namespace": namespace }, "spec": spec,
    });
    let (status, started) = match chance.below(10) {
        0 => (JobStatus::Running, Some(1_760_000_000)),
        1 => (JobStatus::Finished, Some(1_760_000_000)),
        2 | 3 => (JobStatus::Stopped, Some(1_760_000_000)),
        4 => (JobStatus::Failed, Some(1_760_000_000)),
        _ => (JobStatus::Initialized, None),
    };
    let before = JobPatch { status: Some(status), started_time: started, ..JobPatch::default() };
    JobPlan { namespace, name, id, object, before }
}
