//! What the cloud does with one call: checked, carried out or planned, answered.
//!
//! **May touch:** the cloud; time is passed in.
//!
//! **Guarantees**
//! 1. The order is: the gateway's checks, then the job and the operation, or STS. A call that is refused changes no job.
//! 2. What a fault makes the client believe is not what happened: the ledger tells both.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::answer::{Letterhead, Refusal, Reply};
use super::call::{ApiVersion, Call, missing};
use super::gateway::{Counts, Operation, Passed, Stopped};
use super::jobs::{Effect, Job};
use super::ledger::{Execution, Verdict};
use super::metadata::{self, Told};
use super::parameters::{drawn, forced, offset, request_id};
use super::signature::Malformed;
use super::sts::{Lender, identity};
use super::switches::{Behaviour, Form2024, Response};
use super::{Arrival, Cloud, Due, Start};

impl Cloud {
    /// One request at the gateway: checked, carried out or planned, and the answer that a client would get.
    pub(super) fn serve(&mut self, now: Timestamp, seq: u64, arrival: &Arrival, behaviour: &Behaviour) -> Reply {
        self.draw(now);
        let id = request_id(self.seed, seq);
        let date = now + self.switches.clock_offset;
        let head = Letterhead { request_id: &id, host: &arrival.request.host, date };
        let right = self.decide(now, seq, arrival, behaviour, head);
        let answered = match (right, &behaviour.answer) {
            (Ok(_), Response::Error(refusal)) => {
                // What a hint without a number tells where no window asks anything: one second.
                let wait = SignedDuration::from_secs(1);
                Err(Stopped::Error(refusal.clone(), behaviour.hint.clone(), wait))
            }
            (right, _) => right,
        };
        let (reply, verdict) = match answered {
            Ok(reply) => (reply, Verdict::Accepted),
            Err(Stopped::Error(refusal, hint, wait)) => {
                let verdict = Verdict::Refused { code: refusal.code.clone(), status: refusal.http_status() };
                (head.error(&refusal, &hint, wait), verdict)
            }
            Err(Stopped::Html(status)) => (head.html(status), Verdict::Refused { code: "html".to_owned(), status }),
        };
        let reply = match (&behaviour.answer, &verdict) {
            (Response::Odd(oddity), Verdict::Accepted) => head.odd(oddity, reply),
            _ => reply,
        };
        self.ledger.note(seq, |entry| (entry.verdict, entry.status) = (verdict, Some(reply.status)));
        reply
    }

    fn decide(
        &mut self,
        now: Timestamp,
        seq: u64,
        arrival: &Arrival,
        behaviour: &Behaviour,
        head: Letterhead<'_>,
    ) -> Result<Reply, Stopped> {
        if metadata::action(&arrival.request.path).is_some() {
            let Self { machine, keys, switches, .. } = self;
            return match machine.tell(now + switches.clock_offset, arrival, &switches.metadata, keys) {
                Told::Text(text) => Ok(head.text(text)),
                Told::Json(fields) => Ok(head.json(200, &fields)),
                Told::No(status) => Err(Stopped::Html(status)),
            };
        }
        if arrival.request.path != "/" {
            return Err(Refusal::of("InvalidApi.NotFound").into());
        }
        let call = Call::read(arrival).map_err(|Malformed| Refusal::of("InvalidParameter"))?;
        let is_throttled_anyway = match &behaviour.answer {
            Response::Error(refusal) => refusal.is_throttling(),
            Response::Right | Response::Odd(_) | Response::Drop | Response::Hang => false,
        };
        let mut counts = Counts::default();
        let checked = self.gateway.check(now, &call, &self.keys, &self.switches, is_throttled_anyway, &mut counts);
        self.ledger.note(seq, |entry| (entry.window_count, entry.day_count) = (counts.window, counts.day));
        let Self { keys, switches, announced, .. } = self;
        let clock = now + switches.clock_offset;
        let lender = Lender { clock, parameters: &call.parameters, switches: &switches.sts, keys };
        let fields = match checked? {
            Passed::DataWorks { operation, version, account } => {
                let job = self.find_job(now, &call, version, &account);
                let done = job.and_then(|job| match operation {
                    Operation::GetDiJob => Ok(self.look(now, job, version, &account)),
                    Operation::StartDiJob => self.start(now, seq, job, &call, behaviour),
                });
                done.map_err(|refusal| self.switches.shaped(refusal))
            }
            Passed::GetCallerIdentity(caller) => Ok(identity(&caller)),
            Passed::AssumeRole(caller) => lender.assume(&caller),
            Passed::AssumeRoleWithOidc => lender.assume_with_token(announced),
        };
        Ok(head.success(fields?))
    }

    /// The job that a call names, if it is there for this account.
    fn find_job(
        &mut self,
        now: Timestamp,
        call: &Call<'_>,
        version: ApiVersion,
        account: &str,
    ) -> Result<i64, Refusal> {
        let (name, id) = call.job().ok_or_else(|| match version {
            ApiVersion::V2020 => missing("DIJobId"),
            // Formally neither name is required, so the gateway lets it pass. The message is known, the code is a guess.
            ApiVersion::V2024 => Refusal::of("InvalidParameter").with_message("diJobId is null"),
        })?;
        let id = id.parse::<i64>().map_err(|_| Refusal::of(&format!("Invalid{name}")))?;
        if self.switches.auto_create {
            self.jobs.entry(id).or_insert_with(|| Job::new(id, now));
        }
        let is_theirs = |job: &&mut Job| job.account.as_deref().is_none_or(|owner| owner == account);
        let job = self.jobs.get_mut(&id).filter(is_theirs).ok_or_else(|| self.switches.no_such_job.clone())?;
        job.advance(now);
        if job.is_gone { Err(self.switches.no_such_job.clone()) } else { Ok(id) }
    }

    fn look(&self, now: Timestamp, id: i64, version: ApiVersion, account: &str) -> Value {
        let (rules, job) = (self.switches.rules(id), self.jobs.get(&id));
        match version {
            ApiVersion::V2020 => json!({ "Data": job.map(|job| job.data(now, rules, account)) }),
            ApiVersion::V2024 => json!({ "PagingInfo": job.map(|job| job.paging_info(now, rules, account)) }),
        }
    }

    fn start(
        &mut self,
        now: Timestamp,
        seq: u64,
        job: i64,
        call: &Call<'_>,
        behaviour: &Behaviour,
    ) -> Result<Value, Refusal> {
        let is_2024 = call.version() == Some(ApiVersion::V2024);
        let forced = forced(&call.parameters, is_2024 && self.switches.form_2024 == Form2024::GetAndLowerCase)?;
        let start = Start { seq, job, forced, offset: offset(&call.parameters)? };
        let rules = self.switches.rules(job);
        if let Some(Effect::Refused(refusal)) = self.jobs.get(&job).map(|job| job.effect_of_start(rules, start.forced))
        {
            return Err(refusal);
        }
        // Another place in the seed's sequence than the one that says when a call arrives.
        match self.switches.execution(behaviour).delay(drawn(!self.seed, seq)) {
            Some(SignedDuration::ZERO) => self.execute(now, &start),
            Some(delay) => self.plan(now + delay, Due::Execute(start)),
            None => {}
        }
        Ok(if is_2024 { json!({ "Success": true }) } else { json!({}) })
    }

    pub(super) fn execute(&mut self, at: Timestamp, start: &Start) {
        let Start { seq, job: id, forced, offset } = *start;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let effect = job.start(at, self.switches.rules(id), forced);
        if matches!(effect, Effect::Started | Effect::Restarted) {
            let is_restart = effect == Effect::Restarted;
            self.ledger.executed(id, Execution { seq, at, forced, offset, is_restart });
        }
        self.ledger.note(seq, |entry| (entry.executed, entry.effect) = (Some(at), Some(effect)));
    }
}
