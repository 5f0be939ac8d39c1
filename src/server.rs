//! Probes and metrics over plain http: `/healthz`, `/readyz`, `/metrics`.
//!
//! **May touch:** one listening socket, one thread of its own. Never the API server or the cloud: an outage of theirs
//! must not restart this process.
//!
//! **Guarantees**
//! 1. However busy the passes are, probes are answered: they run on a thread and a runtime of their own.
//! 2. `/healthz` fails only if the controller's loop itself stands still, whether or not there is anything to do.
//! 3. Every failing probe says why in one line.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::health::Health;

const INDEX: &str = "dijob-operator\n\n/healthz  alive\n/readyz   ready\n/metrics  OpenMetrics\n";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers on `listen` for the rest of the process's life, and returns the address it listens on (of use with port 0).
/// `metrics` gives the text of one scrape.
///
/// # Errors
/// One line, if the address cannot be listened on or there is no thread to be had.
pub fn serve<M>(listen: SocketAddr, health: Health, metrics: M) -> io::Result<SocketAddr>
where
    M: Fn() -> Result<String, fmt::Error> + Clone + Send + Sync + 'static,
{
    let told = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot serve probes and metrics on {listen} (--listen): {error}"))
    };
    let listener = TcpListener::bind(listen).map_err(told)?;
    listener.set_nonblocking(true).map_err(told)?;
    let bound = listener.local_addr().map_err(told)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(told)?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener).map_err(told)?
    };
    let serving = axum::serve(listener, router(health, metrics)).into_future();
    thread::Builder::new().name("probes".to_owned()).spawn(move || runtime.block_on(serving)).map_err(told)?;
    Ok(bound)
}

fn router<M>(health: Health, metrics: M) -> Router
where
    M: Fn() -> Result<String, fmt::Error> + Clone + Send + Sync + 'static,
{
    let ready = health.clone();
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/healthz", get(move || async move { probe(health.alive()) }))
        .route("/readyz", get(move || async move { probe(ready.ready()) }))
        .route("/metrics", get(move || async move { scrape(metrics()) }))
}

fn probe(state: Result<(), String>) -> (StatusCode, String) {
    match state {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn scrape(text: Result<String, fmt::Error>) -> impl IntoResponse {
    let (code, body) = match text {
        Ok(text) => (StatusCode::OK, text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
    };
    (code, [(header::CONTENT_TYPE, OPEN_METRICS)], body)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::health::HEARTBEAT_LIMIT;

    fn loopback() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn started() -> (Health, SocketAddr) {
        let health = Health::new(Clock::system());
        let address = serve(loopback(), health.clone(), || Ok("dijob_leader 1\n# EOF\n".to_owned())).unwrap();
        (health, address)
    }

    #[test]
    fn a_live_process_is_healthy_before_it_is_ready() {
        let (_health, address) = started();
        let answer = ask(address, "/healthz");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
        let answer = ask(address, "/readyz");
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("\r\n\r\nstarting\n"), "{answer}");
    }

    #[test]
    fn readiness_follows_what_was_said_last() {
        let (health, address) = started();
        health.set_ready(Ok(()));
        assert!(ask(address, "/readyz").ends_with("\r\n\r\nok\n"));
        health.clone().set_ready(Err("stopping".to_owned()));
        let answer = ask(address, "/readyz");
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("stopping\n"), "{answer}");
    }

    #[test]
    fn metrics_come_as_openmetrics_and_other_paths_do_not_exist() {
        let (_health, address) = started();
        let answer = ask(address, "/metrics");
        let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
        assert!(answer.contains(kind) && answer.ends_with("dijob_leader 1\n# EOF\n"), "{answer}");
        let index = ask(address, "/");
        assert!(["/healthz", "/readyz", "/metrics"].iter().all(|path| index.contains(path)), "{index}");
        assert!(ask(address, "/debug").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn an_address_in_use_is_one_line_that_names_it() {
        let taken = TcpListener::bind(loopback()).unwrap();
        let address = taken.local_addr().unwrap();
        let error = serve(address, Health::new(Clock::system()), || Ok(String::new())).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("--listen"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stands_still_for_15_seconds_is_dead_until_it_beats_again() {
        let health = Health::new(Clock::system());
        tokio::time::advance(Duration::from_secs(20)).await;
        health.beat();
        tokio::time::advance(HEARTBEAT_LIMIT).await;
        assert_eq!(health.alive(), Ok(()));
        tokio::time::advance(Duration::from_millis(2)).await;
        let why = "the controller's loop has stood still for 15 s";
        assert_eq!(health.alive(), Err(why.to_owned()));
        assert_eq!(probe(health.alive()), (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")));
        health.beat();
        assert_eq!(health.alive(), Ok(()));
    }
}
