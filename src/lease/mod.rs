//! Leader election on a `coordination.k8s.io/v1` Lease: the task. It reads and writes the Lease and holds no rule;
//! [`state`] decides.
//!
//! **May touch:** one Lease, the clock, the log.
//!
//! **Guarantees**
//! 1. At most one [`Role::Leader`] of all candidates is valid at a time, under the assumptions of [`state`].
//! 2. A Lease is only ever written as it was read, under its version; each call has a time limit of its own, so an API
//!    server that hangs keeps nobody leader.
//! 3. Each change of role is one line in the log; so is the first of a row of failures.
//!
//! **Caveats:** a lease fences nothing at the cloud. Test [`Role::outlasts`] right before each call, on the value that
//! the channel holds at that time.
//!
//! Our own, since the crates at hand either do not build on this kube or keep leading while their calls hang.

pub mod state;

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;
use state::{Election, RELEASED, Seen, Step};
pub use state::{Role, Settings};

/// How often a release is tried against other writers.
const RELEASE_ATTEMPTS: usize = 3;

/// Takes part in the election until `stop`, or until leadership is lost.
///
/// On `stop` it says [`Role::Follower`], gives the Lease up and returns: whatever needs leadership must have ended
/// before. On loss it says [`Role::Lost`] and returns: the process must end then, without a drain.
pub async fn run(client: Client, settings: Settings, clock: Clock, role: watch::Sender<Role>, stop: CancellationToken) {
    let api = Api::namespaced(client, &settings.namespace);
    let mut candidate = Candidate { api, clock, election: Election::new(settings), failing: false };
    role.send_replace(Role::Follower);
    loop {
        let began = candidate.clock.elapsed();
        if let Err(why) = candidate.round(&role).await {
            role.send_replace(Role::Lost);
            warn!(holder = candidate.identity(), why, "lost leadership");
            return;
        }
        let clock = &candidate.clock;
        let next = candidate.election.next_look(began, clock.elapsed(), clock.jitter());
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = sleep_until(clock.instant(next)) => {}
        }
    }
    role.send_replace(Role::Follower);
    if candidate.election.may_hold() {
        candidate.release().await;
    }
}

/// Why a call brought nothing.
enum Miss {
    /// No answer within the limit.
    Late,
    /// The API server, or the way to it, said no.
    Failed(Box<kube::Error>),
}

struct Candidate {
    api: Api<Lease>,
    clock: Clock,
    election: Election,
    failing: bool,
}

impl Candidate {
    fn identity(&self) -> &str {
        &self.election.settings().identity
    }

    /// One look at the Lease and the write that follows from it. Fails, with the reason, if we lead no more.
    async fn round(&mut self, role: &watch::Sender<Role>) -> Result<(), &'static str> {
        match self.look_and_write(role).await {
            Ok(Step::StepDown) if self.election.is_over(self.clock.elapsed()) => {
                return Err("the lease was not renewed in time");
            }
            Ok(Step::StepDown) => return Err("another holder stands in the lease"),
            Ok(Step::Place(_) | Step::Acquire(_) | Step::Renew(_) | Step::Wait) => self.failing = false,
            Err(miss) => self.complain(&miss),
        }
        if self.election.is_over(self.clock.elapsed()) { Err("the lease was not renewed in time") } else { Ok(()) }
    }

    async fn look_and_write(&mut self, role: &watch::Sender<Role>) -> Result<Step, Miss> {
        let lease = self.read().await?;
        let step = self.election.see(lease.as_ref().map(seen).as_ref(), self.clock.elapsed());
        let transitions = match step {
            Step::Acquire(transitions) | Step::Renew(transitions) => transitions,
            Step::Place(transitions) => {
                let placed = self.write(self.placeholder(transitions)).await?;
                return Ok(self.election.see(Some(&seen(&placed)), self.clock.elapsed()));
            }
            Step::Wait | Step::StepDown => return Ok(step),
        };
        let lease = lease.unwrap_or_else(|| self.placeholder(transitions));
        let written = self.held(lease, matches!(step, Step::Acquire(_)), transitions);
        let sent = self.clock.elapsed(); // before the request: others count from when it arrived
        self.write(written).await?;
        let was_leading = self.election.is_leading();
        role.send_replace(self.election.renewed(transitions, sent));
        if !was_leading {
            info!(holder = self.identity(), transitions, "leading");
        }
        Ok(step)
    }

    /// A Lease without a holder.
    fn placeholder(&self, transitions: i32) -> Lease {
        let Settings { name, lease_duration, .. } = self.election.settings();
        let spec = LeaseSpec {
            lease_duration_seconds: Some(whole_seconds(*lease_duration)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        Lease { metadata, spec: Some(spec) }
    }

    /// The Lease as read, with us in it.
    fn held(&self, lease: Lease, acquire: bool, transitions: i32) -> Lease {
        let Settings { identity, lease_duration, .. } = self.election.settings();
        let now = MicroTime(self.clock.now());
        let spec = lease.spec.unwrap_or_default();
        let spec = LeaseSpec {
            acquire_time: spec.acquire_time.filter(|_| !acquire).or_else(|| Some(now.clone())),
            holder_identity: Some(identity.clone()),
            lease_duration_seconds: Some(whole_seconds(*lease_duration)),
            lease_transitions: Some(transitions),
            renew_time: Some(now),
            ..spec
        };
        Lease { spec: Some(spec), ..lease }
    }

    /// Leaves the Lease to whoever looks next.
    async fn release(&mut self) {
        for _ in 0..RELEASE_ATTEMPTS {
            match self.try_release().await {
                Ok(true) => return info!(holder = self.identity(), "released the lease"),
                Ok(false) => return,
                Err(Miss::Failed(error)) if is_conflict(&error) => {}
                Err(miss) => return self.complain(&miss),
            }
        }
    }

    /// False: the Lease is not ours.
    async fn try_release(&self) -> Result<bool, Miss> {
        let Some(mut lease) = self.read().await? else { return Ok(false) };
        let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(self.identity()))
        else {
            return Ok(false);
        };
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(whole_seconds(RELEASED));
        spec.renew_time = Some(MicroTime(self.clock.now()));
        self.write(lease).await.map(|_| true)
    }

    async fn read(&self) -> Result<Option<Lease>, Miss> {
        self.limited(self.api.get_opt(&self.election.settings().name)).await
    }

    /// Replaces what was read, or creates what was absent.
    async fn write(&self, lease: Lease) -> Result<Lease, Miss> {
        let how = PostParams::default();
        let name = &self.election.settings().name;
        if lease.metadata.resource_version.is_some() {
            self.limited(self.api.replace(name, &how, &lease)).await
        } else {
            self.limited(self.api.create(&how, &lease)).await
        }
    }

    async fn limited<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Miss> {
        let limit = self.election.give_up(self.clock.elapsed());
        match timeout_at(self.clock.instant(limit), call).await {
            Ok(answer) => answer.map_err(|error| Miss::Failed(Box::new(error))),
            Err(_) => Err(Miss::Late),
        }
    }

    /// Logs the first of a row of failures. A conflict is none: another was faster, and the next look shows whom.
    fn complain(&mut self, miss: &Miss) {
        let error = match miss {
            Miss::Failed(error) if is_conflict(error) => return,
            Miss::Failed(error) => message(error),
            Miss::Late => "no answer in time".to_owned(),
        };
        if !std::mem::replace(&mut self.failing, true) {
            warn!(holder = self.identity(), error, "cannot read or write the lease");
        }
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// The API server's own words; the rest of its answer is noise.
fn message(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error { status.message.clone() } else { error.to_string() }
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Seen {
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(seconds.unwrap_or_default()),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX).max(1)
}
