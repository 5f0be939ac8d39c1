//! One request, sent once.
//!
//! **May touch:** the network, and the monotonic clock.
//!
//! **Guarantees**
//! 1. One [`Transport::send`] is at most one request on the wire: no retry, no redirect, no proxy of the environment, no
//!    reused connection (hyper repeats a request by itself if a reused one turns out dead; TLS resumption makes the new
//!    one cheap). HTTP/1.1 only, which has no refused streams to repeat.
//! 2. The request leaves within the time to connect and to write, or never; the lease's fence rests on that. It is checked
//!    when the connection is there, and for a form again when it is handed over.
//! 3. The whole exchange ends within its time, and reads 1 MiB of body at most. Compressed answers are not unpacked.
//! 4. [`TransportError::NeverLeft`] is said only if there was no connection, or the form was never handed to it. A signature
//!    covers the form, so what may have left without it cannot be carried out.
//! 5. A name that resolves to an address of this host, of its link or of a metadata service gets no byte; the address that
//!    was checked is the one that is called.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tower::util::AndThenLayer;

use crate::clock::Clock;

/// A request on its way.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<http::Response<Vec<u8>>, TransportError>> + Send + 'a>>;

/// Sends a request and brings the answer. The seam for simulations.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends `request` at most once, and gives whatever answer comes, of any status.
    fn send(&self, request: http::Request<Vec<u8>>) -> Sending<'_>;
}

/// Why no answer came. The text names no URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// It failed before the request could leave, on the name, the connection or TLS: surely not carried out.
    #[error("the request did not leave: {0}")]
    NeverLeft(String),
    /// It failed at any time after that.
    #[error("no usable answer came: {0}")]
    MayHaveRun(String),
}

/// Hard limits of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To resolve the name, connect and agree on TLS.
    pub connect: Duration,
    /// From then until the request has been handed to the connection.
    pub write: Duration,
    /// For everything, the answer's body too.
    pub total: Duration,
}

impl Default for Timeouts {
    /// 5 s, 1 s and 15 s: a lease of 15 s outlasts the first two, and the settle time of 30 s the last.
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), write: Duration::from_secs(1), total: Duration::from_secs(15) }
    }
}

/// An answer is a few kilobytes; a larger one is a mistake or an attack.
const LARGEST_BODY: usize = 1024 * 1024;

/// The real network.
#[derive(Debug)]
pub struct HttpTransport {
    client: reqwest::Client,
    clock: Clock,
    timeouts: Timeouts,
}

impl HttpTransport {
    /// Makes ready to send. Installs the process's TLS provider if nobody has yet.
    ///
    /// # Errors
    /// If the host's root certificates cannot be loaded.
    pub fn new(clock: Clock, timeouts: Timeouts) -> Result<Self, reqwest::Error> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // It fails only if another thread was faster, which serves as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = reqwest::Client::builder()
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.total)
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .http1_only()
            .dns_resolver(Arc::new(CheckedNames))
            .connector_layer(AndThenLayer::new(in_time))
            .build()?;
        Ok(Self { client, clock, timeouts })
    }

    async fn exchange(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, TransportError> {
        let left = Arc::new(AtomicBool::new(request.body().is_empty()));
        let until = self.clock.elapsed() + self.timeouts.connect + self.timeouts.write;
        let request = request.map(|form| {
            let bytes = Some(Bytes::from(form));
            reqwest::Body::wrap(Form { bytes, until, clock: self.clock.clone(), left: Arc::clone(&left) })
        });
        let failure = |error: reqwest::Error| {
            if error.is_connect() || !left.load(Ordering::Acquire) {
                TransportError::NeverLeft(chain(&error.without_url()))
            } else {
                TransportError::MayHaveRun(chain(&error.without_url()))
            }
        };
        let request = reqwest::Request::try_from(request).map_err(failure)?;
        let sending = LEAVES_BY.scope((self.clock.clone(), until), self.client.execute(request));
        let mut response = sending.await.map_err(failure)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return Err(TransportError::MayHaveRun("the answer is larger than 1 MiB".into()));
            }
            body.extend_from_slice(&chunk);
        }
        let mut answer = http::Response::new(body);
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: http::Request<Vec<u8>>) -> Sending<'_> {
        Box::pin(self.exchange(request))
    }
}

tokio::task_local! {
    /// Until when the request of this task may leave, on the clock's monotonic time.
    static LEAVES_BY: (Clock, Duration);
}

/// Passes a fresh connection on, unless the time to send is over: a request without a form leaves at once on it.
async fn in_time<C>(connection: C) -> Result<C, Box<dyn StdError + Send + Sync>> {
    let late = LEAVES_BY.try_with(|(clock, until)| clock.elapsed() > *until);
    if late.unwrap_or(true) { Err("the time to send it was over".into()) } else { Ok(connection) }
}

/// An error and what lies below it, in one line.
fn chain(error: &dyn StdError) -> String {
    let below = std::iter::successors(error.source(), |error| (**error).source());
    below.fold(error.to_string(), |text, error| format!("{text}: {error}"))
}

/// The body of a request: given out once, in one piece, and not after `until`. It cannot be cloned, so nothing below can
/// keep a copy to send again.
struct Form {
    bytes: Option<Bytes>,
    /// On the clock's monotonic time, so that a process that slept finds its time over.
    until: Duration,
    clock: Clock,
    left: Arc<AtomicBool>,
}

impl Body for Form {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let Some(bytes) = this.bytes.take() else { return Poll::Ready(None) };
        if this.clock.elapsed() > this.until {
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "the time to send it was over"))));
        }
        this.left.store(true, Ordering::Release);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// The host's resolver, without the addresses that no endpoint has.
#[derive(Debug)]
struct CheckedNames;

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let checked: Vec<SocketAddr> = found.filter(|address| may_call(name.as_str(), address.ip())).collect();
            if checked.is_empty() {
                return Err("the host's name leads to no address that may be called".into());
            }
            Ok(Box::new(checked.into_iter()) as Addrs)
        })
    }
}

/// Whether `name` may lead to `address`. A VPC endpoint has a private or shared address, so only those are refused that
/// never are an endpoint. `localhost` is loopback and nothing else; the rules for endpoints have let it pass or not.
fn may_call(name: &str, address: IpAddr) -> bool {
    const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let address = address.to_canonical();
    if name == "localhost" {
        return address.is_loopback();
    }
    let is_special = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    !is_special
        && match address {
            IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_broadcast() && v4.octets()[0] != 0 && v4 != METADATA_V4,
            IpAddr::V6(v6) => !v6.is_unicast_link_local() && v6 != METADATA_V6,
        }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use std::future::poll_fn;

    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;

    use super::*;

    const FORM: &str = "DIJobId=11743";

    fn transport() -> HttpTransport {
        HttpTransport::new(Clock::system(), Timeouts::default()).unwrap()
    }

    fn request(origin: &str) -> http::Request<Vec<u8>> {
        http::Request::post(format!("{origin}/?Signature=canary")).body(FORM.into()).unwrap()
    }

    async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        (listener, origin)
    }

    /// Takes a connection and reads one whole request from it.
    async fn take(listener: &TcpListener) -> (TcpStream, String) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(FORM.as_bytes()) {
            assert!(stream.read_buf(&mut seen).await.unwrap() > 0, "the request is cut");
        }
        (stream, String::from_utf8(seen).unwrap())
    }

    async fn answer(listener: &TcpListener, bytes: &[u8]) -> String {
        let (mut stream, seen) = take(listener).await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        seen
    }

    fn nobody_is_waiting(listener: &TcpListener) -> bool {
        listener.accept().now_or_never().is_none()
    }

    fn assert_never_left(result: Result<http::Response<Vec<u8>>, TransportError>) {
        match result {
            Err(TransportError::NeverLeft(why)) => assert!(!why.contains("canary"), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    fn assert_may_have_run(result: Result<http::Response<Vec<u8>>, TransportError>) {
        match result {
            Err(TransportError::MayHaveRun(why)) => assert!(!why.contains("canary"), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_request_is_sent_as_it_is_and_its_answer_brought_whole() {
        let (listener, origin) = listen().await;
        let transport = transport();
        let raw =
            b"HTTP/1.1 429 Too Many\r\nDate: x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x00";
        let (result, seen) = tokio::join!(transport.send(request(&origin)), answer(&listener, raw));
        let response = result.unwrap();
        assert_eq!((response.status().as_u16(), response.body().as_slice()), (429, &b"\x1f\x8b\x00"[..]));
        assert_eq!(response.headers().get("date").unwrap(), "x");
        assert!(seen.starts_with("POST /?Signature=canary HTTP/1.1\r\n"), "{seen}");
        let seen = seen.to_ascii_lowercase();
        assert!(seen.contains("\r\ncontent-length: 13\r\n"), "{seen}");
        assert!(!seen.contains("accept-encoding") && !seen.contains("transfer-encoding"), "{seen}");
    }

    /// Covers: 35u.
    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let transport = transport();
        for status in [301, 302, 303, 307, 308] {
            let (listener, origin) = listen().await;
            let (elsewhere, target) = listen().await;
            let raw = format!("HTTP/1.1 {status} Moved\r\nLocation: {target}/\r\nContent-Length: 0\r\n\r\n");
            let (result, _) = tokio::join!(transport.send(request(&origin)), answer(&listener, raw.as_bytes()));
            assert_eq!(result.unwrap().status().as_u16(), status);
            assert!(nobody_is_waiting(&elsewhere) && nobody_is_waiting(&listener));
        }
    }

    #[tokio::test]
    async fn one_attempt_arrives_at_most_once() {
        let transport = transport();
        let cut = &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\""[..];
        for raw in [&b""[..], cut, &b"garbage\r\n\r\n"[..]] {
            let (listener, origin) = listen().await;
            let (result, _) = tokio::join!(transport.send(request(&origin)), answer(&listener, raw));
            assert_may_have_run(result);
            assert!(nobody_is_waiting(&listener));
        }
        let (listener, origin) = listen().await;
        let unavailable = b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
        let (result, _) = tokio::join!(transport.send(request(&origin)), answer(&listener, unavailable));
        assert_eq!(result.unwrap().status().as_u16(), 503);
        assert!(nobody_is_waiting(&listener));
    }

    #[tokio::test]
    async fn no_connection_is_used_twice() {
        let (listener, origin) = listen().await;
        let transport = transport();
        let serve = async {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = take(&listener).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
                open.push(stream);
            }
        };
        let calls = async {
            for _ in 0..3 {
                assert_eq!(transport.send(request(&origin)).await.unwrap().body(), b"{}");
            }
        };
        // A request on a connection that was kept open would get no answer here.
        tokio::select! { () = calls => {}, () = serve => {} }
    }

    #[tokio::test]
    async fn a_refused_connection_never_left() {
        let (listener, origin) = listen().await;
        drop(listener);
        let result = transport().send(request(&origin)).await;
        assert!(matches!(&result, Err(error) if error.to_string().contains("Connection refused")), "{result:?}");
        assert_never_left(result);
    }

    #[tokio::test]
    async fn the_time_to_write_comes_on_top_of_the_time_to_connect() {
        let (listener, origin) = listen().await;
        let mut transport = transport();
        let hour = Duration::from_secs(3600);
        transport.timeouts = Timeouts { connect: Duration::ZERO, write: hour, ..Timeouts::default() };
        let raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let (result, _) = tokio::join!(transport.send(request(&origin)), answer(&listener, raw));
        assert!(result.is_ok(), "{result:?}");
    }

    #[tokio::test]
    async fn a_request_without_a_form_may_have_run_once_it_is_connected() {
        let (listener, origin) = listen().await;
        let transport = transport();
        let bare = || http::Request::get(&origin).body(Vec::new()).unwrap();
        let hang_up = async { drop(listener.accept().await.unwrap()) };
        let (result, ()) = tokio::join!(transport.send(bare()), hang_up);
        assert_may_have_run(result);
        drop(listener);
        assert_never_left(transport.send(bare()).await);
    }

    #[tokio::test]
    async fn a_failed_tls_handshake_never_left() {
        let (listener, origin) = listen().await;
        let transport = transport();
        let not_tls = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad\r\n\r\n").await.unwrap();
            stream
        };
        let (result, _) = tokio::join!(transport.send(request(&origin.replace("http", "https"))), not_tls);
        assert_never_left(result);
    }

    #[tokio::test]
    async fn silence_before_the_request_never_left() {
        let (listener, origin) = listen().await;
        let transport = transport();
        let before = transport.clock.elapsed();
        let silence = async {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::time::pause();
            stream
        };
        let (result, _stream) = tokio::join!(transport.send(request(&origin.replace("http", "https"))), silence);
        assert_never_left(result);
        let took = transport.clock.elapsed().checked_sub(before).unwrap();
        assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(10), "{took:?}");
    }

    #[tokio::test]
    async fn silence_after_the_request_may_have_run() {
        let (listener, origin) = listen().await;
        let transport = transport();
        let before = transport.clock.elapsed();
        let silence = async {
            let (stream, _) = take(&listener).await;
            tokio::time::pause();
            stream
        };
        let call = tokio::time::timeout(Duration::from_secs(60), transport.send(request(&origin)));
        let (result, _stream) = tokio::join!(call, silence);
        assert_may_have_run(result.expect("the exchange has no end"));
        let took = transport.clock.elapsed().checked_sub(before).unwrap();
        assert!(took >= Duration::from_secs(15) && took < Duration::from_secs(20), "{took:?}");
    }

    #[tokio::test]
    async fn a_huge_answer_ends_at_the_cap() {
        let (listener, origin) = listen().await;
        let transport = transport();
        let (over, is_over) = oneshot::channel::<()>();
        let endless = async {
            let (mut stream, _) = take(&listener).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            // Only the client can end this: it hangs up at the cap.
            while stream.write_all(&[b' '; 8192]).await.is_ok() {}
            is_over.await.unwrap();
        };
        let call = async {
            let result = transport.send(request(&origin)).await;
            over.send(()).unwrap();
            result
        };
        let (result, ()) = tokio::join!(call, endless);
        assert_eq!(result.unwrap_err(), TransportError::MayHaveRun("the answer is larger than 1 MiB".into()));
    }

    #[tokio::test]
    async fn an_answer_of_one_mebibyte_still_fits() {
        for (length, fits) in [(1_048_576, true), (1_048_577, false)] {
            let (listener, origin) = listen().await;
            let transport = transport();
            let serve = async {
                let (mut stream, _) = take(&listener).await;
                stream
                    .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes())
                    .await
                    .unwrap();
                // The client hangs up on what is too long.
                let _ = stream.write_all(&vec![b' '; length]).await;
            };
            let (result, ()) = tokio::join!(transport.send(request(&origin)), serve);
            assert_eq!(result.is_ok_and(|response| response.body().len() == length), fits);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_form_is_not_given_out_after_its_time() {
        for (late, given) in [(Duration::ZERO, true), (Duration::from_millis(1), false)] {
            let clock = Clock::system();
            let (until, left) = (clock.elapsed() + Duration::from_secs(6), Arc::new(AtomicBool::new(false)));
            let mut form = Form { bytes: Some(FORM.into()), until, clock, left: Arc::clone(&left) };
            assert_eq!(form.size_hint().exact(), Some(13));
            tokio::time::advance(Duration::from_secs(6) + late).await;
            let frame = poll_fn(|context| Pin::new(&mut form).poll_frame(context)).await.unwrap();
            assert_eq!((frame.is_ok(), left.load(Ordering::Acquire)), (given, given));
            assert!(poll_fn(|context| Pin::new(&mut form).poll_frame(context)).await.is_none());
        }
    }

    #[tokio::test]
    async fn a_request_whose_time_is_over_never_left() {
        let clock = Clock::system();
        let mut transport = HttpTransport::new(clock.clone(), Timeouts::default()).unwrap();
        // The time to connect and write is over at once, while the connector itself still has its 5 s.
        transport.timeouts = Timeouts { connect: Duration::ZERO, write: Duration::ZERO, ..Timeouts::default() };
        for method in [http::Method::POST, http::Method::GET] {
            let (listener, origin) = listen().await;
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut seen = Vec::new();
                let _ = stream.read_to_end(&mut seen).await;
                String::from_utf8(seen).unwrap()
            };
            let mut request = request(&origin);
            if method == http::Method::GET {
                request.body_mut().clear();
            }
            *request.method_mut() = method;
            let (result, seen) = tokio::join!(transport.send(request), serve);
            assert_never_left(result);
            assert_eq!(seen, "", "the connection was there when the time was over");
        }
    }

    /// Covers: 35u.
    #[test]
    fn an_address_that_is_never_an_endpoint_is_not_called() {
        let refused = [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ];
        for address in refused {
            assert!(!may_call("dataworks.cn-shanghai.aliyuncs.com", address.parse().unwrap()), "{address}");
        }
        for address in ["8.8.8.8", "10.0.0.1", "192.168.1.1", "100.64.0.1", "100.100.2.136", "2400:3200::1", "fd00::1"]
        {
            assert!(may_call("dataworks-vpc.cn-shanghai.aliyuncs.com", address.parse().unwrap()), "{address}");
            assert!(!may_call("localhost", address.parse().unwrap()), "{address}");
        }
        assert!(may_call("localhost", "127.0.0.1".parse().unwrap()) && may_call("localhost", "::1".parse().unwrap()));
    }

    /// Covers: 35u.
    #[tokio::test]
    async fn a_name_that_leads_to_metadata_or_to_this_host_gets_no_byte() {
        // An address in place of a name leads to itself, as the name of an attacker would.
        for name in ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "127.0.0.1", "0.0.0.0", "::1"] {
            assert!(CheckedNames.resolve(name.parse().unwrap()).await.is_err(), "{name}");
        }
    }

    #[tokio::test]
    async fn proxies_of_the_environment_are_ignored() {
        // A variable of this process would reach the other tests: one of them runs in a process of its own.
        let alone = "dataworks::transport::tests::a_request_is_sent_as_it_is_and_its_answer_brought_whole";
        let (proxy, origin) = listen().await;
        let mut test = tokio::process::Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", alone]).env_remove("NO_PROXY").env_remove("no_proxy").kill_on_drop(true);
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            test.env(name, &origin);
        }
        let output = tokio::select! {
            output = test.output() => output.unwrap(),
            _ = proxy.accept() => panic!("the proxy is asked"),
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[tokio::test]
    async fn http_2_whose_refused_streams_are_sent_again_is_not_offered() {
        let (listener, origin) = listen().await;
        let transport = transport();
        let greeting = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 5];
            stream.read_exact(&mut seen).await.unwrap();
            let length = seen.split_off(3).try_into().map(u16::from_be_bytes).unwrap();
            let mut hello = vec![0; length.into()];
            stream.read_exact(&mut hello).await.unwrap();
            hello
        };
        let call = transport.send(request(&origin.replace("http", "https").replace("127.0.0.1", "localhost")));
        let (result, hello) = tokio::join!(call, greeting);
        assert_never_left(result);
        let offers = |protocol: &[u8]| hello.windows(protocol.len()).any(|part| part == protocol);
        assert!(offers(b"\x08http/1.1") && !offers(b"\x02h2"), "{hello:?}");
    }

    #[tokio::test]
    async fn localhost_resolves_to_loopback() {
        let addresses: Vec<SocketAddr> = CheckedNames.resolve("localhost".parse().unwrap()).await.unwrap().collect();
        assert!(!addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback()));
    }
}
