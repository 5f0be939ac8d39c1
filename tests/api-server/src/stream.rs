//! The events of one watch, each under the fate that its [`Wire`] gives it.
//!
//! **May touch:** tokio's time; the [`ApiServer`].

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

use crate::ApiServer;
use crate::core::Watch;
use crate::wire::{EventFate, WatchInfo, Wire};

/// How often the real one sends a bookmark.
const BOOKMARK: Duration = Duration::from_secs(60);
/// How long a watch lasts that asks for no end; the real one picks 30 to 60 minutes.
const LONGEST: Duration = Duration::from_secs(45 * 60);

struct Stage {
    server: ApiServer,
    watch: Watch,
    info: WatchInfo,
    wire: Arc<dyn Wire>,
    nth: u64,
    again: Option<Bytes>,
    ended: bool,
    changed: Arc<Notify>,
    end: Pin<Box<Sleep>>,
    bookmark: Pin<Box<Sleep>>,
}

pub(crate) fn events(
    server: ApiServer,
    watch: Watch,
    info: WatchInfo,
    wire: Arc<dyn Wire>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let end = Box::pin(sleep(watch.timeout().unwrap_or(LONGEST)));
    let changed = server.change();
    let bookmark = Box::pin(sleep(BOOKMARK));
    let stage = Stage { server, watch, info, wire, nth: 0, again: None, ended: false, changed, end, bookmark };
    futures::stream::unfold(stage, |mut stage| async move { stage.next().await.map(|event| (event, stage)) })
}

impl Stage {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(event) = self.again.take() {
            return Some(Ok(event));
        }
        while !self.ended {
            let event = self.event().await?;
            let nth = self.nth;
            self.nth += 1;
            match self.wire.event(&self.info, nth) {
                EventFate::Deliver => return Some(Ok(event)),
                EventFate::Delay(time) => {
                    sleep(time).await;
                    return Some(Ok(event));
                }
                EventFate::Lose => {}
                EventFate::Double => {
                    self.again = Some(event.clone());
                    return Some(Ok(event));
                }
                EventFate::Silence => pending().await,
                EventFate::Close => return None,
                EventFate::Break => {
                    self.ended = true;
                    return Some(Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer")));
                }
                EventFate::Gone => {
                    self.ended = true;
                    return Some(Ok(Watch::gone()));
                }
            }
        }
        None
    }

    /// The next event as the API server sends it; `None`: the watch is over.
    async fn event(&mut self) -> Option<Bytes> {
        loop {
            let changed = self.changed.notified();
            if let Some(event) = self.server.next_event(&mut self.watch) {
                return Some(event);
            }
            if self.watch.is_over() {
                return None;
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = &mut self.end => return None,
                () = &mut self.bookmark => {
                    self.bookmark = Box::pin(sleep(BOOKMARK));
                    if let Some(bookmark) = self.server.bookmark(&self.watch) {
                        return Some(bookmark);
                    }
                }
            }
        }
    }
}
