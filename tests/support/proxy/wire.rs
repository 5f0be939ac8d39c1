//! The wire on the upstream's side: its connections, and bodies that tell when they are sent.
#![expect(clippy::unwrap_used, reason = "a broken test tool fails its test")]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The server behind the proxy.
#[derive(Clone)]
pub struct Upstream {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    namespace: Option<String>,
}

/// What the operator lists and watches, in all namespaces.
const KINDS: [&str; 2] = ["/apis/dijob.dev/v1alpha1/dataintegrationjobs", "/apis/dijob.dev/v1alpha1/dataworksaccounts"];

impl Upstream {
    /// A server at `http://IP:PORT`.
    pub fn http(url: &str) -> Self {
        Self {
            address: url.strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap(),
            tls: None,
            namespace: None,
        }
    }

    /// A server at `https://IP:PORT`, whose certificate is signed by, or is, one in `ca_pem`.
    pub fn https(url: &str, ca_pem: &str) -> Self {
        let address = url.strip_prefix("https://").unwrap().trim_end_matches('/').parse().unwrap();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = builder.with_root_certificates(roots).with_no_client_auth();
        Self { address, tls: Some(Arc::new(tls).into()), namespace: None }
    }

    /// The same, but who lists or watches our kinds everywhere is shown one namespace alone: an operator works on all that
    /// it sees, and so several can share one API server without meeting.
    pub fn within(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self }
    }

    /// What the upstream is asked for, when this is what the caller asks for.
    pub fn path(&self, path: &str) -> String {
        let everywhere = |kind: &&&str| path.strip_prefix(**kind).is_some_and(|rest| !rest.starts_with('/'));
        match (&self.namespace, KINDS.iter().find(everywhere)) {
            (Some(namespace), Some(kind)) => {
                let (group, kind) = kind.rsplit_once('/').unwrap();
                path.replacen(&format!("{group}/{kind}"), &format!("{group}/namespaces/{namespace}/{kind}"), 1)
            }
            _ => path.to_owned(),
        }
    }

    pub async fn connect(&self) -> std::io::Result<SendRequest<Tracked<Full<Bytes>>>> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return open(tcp).await };
        open(tls.connect(ServerName::IpAddress(self.address.ip().into()), tcp).await?).await
    }
}

async fn open<S>(stream: S) -> std::io::Result<SendRequest<Tracked<Full<Bytes>>>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A body that tells when the connection that sends it is done with it, and whether it was sent whole.
pub struct Tracked<B: Body> {
    body: B,
    ended: bool,
    done: Option<Box<dyn FnOnce(bool) + Send + Sync>>,
}

impl<B: Body> Tracked<B> {
    /// `done` gets true if the body was sent whole.
    pub fn new(body: B, done: impl FnOnce(bool) + Send + Sync + 'static) -> Self {
        Self { body, ended: false, done: Some(Box::new(done)) }
    }
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.ended |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> Drop for Tracked<B> {
    fn drop(&mut self) {
        let whole = self.ended || self.body.is_end_stream();
        if let Some(done) = self.done.take() {
            done(whole);
        }
    }
}
