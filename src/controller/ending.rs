//! How the controller ends: what only this process knows is recorded before it is forgotten.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;

use super::pass::{one, span_of};
use super::queue::ObjectKey;
use super::record::read_again;
use super::{BEAT, Context, Controller};

/// How long records are tried again that could not be written: with a request that hangs before, it fits the 40 s that the
/// manifest gives.
const LAST_RECORDS: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(500);

impl Controller {
    /// Passes under way may be between a call and its record: they end. Then what they could not write is written: an answer,
    /// or that an intent was never sent, which the next leader would have to take for a call without an answer.
    pub(super) async fn end(&mut self) {
        self.drain().await;
        if tokio::time::timeout(LAST_RECORDS, self.settle()).await.is_err() {
            tracing::warn!("what became of some starts could not be recorded: the next leader looks for them");
        }
    }

    /// These passes begin no call, so they may be cut.
    async fn settle(&mut self) {
        loop {
            let open = unsettled(&self.ctx);
            if open.is_empty() || !self.ctx.role.borrow().outlasts(self.ctx.clock.elapsed(), Duration::ZERO) {
                return;
            }
            for key in open {
                let span = span_of(&key);
                self.running.spawn(last(self.ctx.clone(), key).instrument(span));
            }
            self.drain().await;
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn drain(&mut self) {
        let mut beat = tokio::time::interval(BEAT);
        loop {
            tokio::select! {
                biased;
                _ = beat.tick() => self.ctx.health.beat(),
                ended = self.running.join_next() => match ended {
                    Some(ended) => self.ended(ended),
                    None => return,
                },
            }
        }
    }
}

/// No watch is read any more, so the object is.
async fn last(ctx: Arc<Context>, key: ObjectKey) -> (ObjectKey, Option<Duration>) {
    if read_again(&ctx, &key).await
        && let Some(job) = ctx.objects.job(&key)
    {
        let pending = job.status.as_ref().and_then(|status| status.pending_start.as_ref()).map(|pending| &pending.id);
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        ctx.memory.update(uid, |facts| facts.never_sent.retain(|id| Some(id) == pending));
    }
    one(ctx, key, None).await
}

fn unsettled(ctx: &Context) -> Vec<ObjectKey> {
    let is_open = |key: &ObjectKey| ctx.objects.uid(key).is_some_and(|uid| ctx.memory.facts(&uid).is_open());
    ctx.objects.job_keys().into_iter().filter(is_open).collect()
}
