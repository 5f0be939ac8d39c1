//! One STS for all tenants of a test binary, as one flag of the operator names it: each call goes on to the tenant whose key
//! or role it names. What is lent on the way is kept, to be looked for where no secret may be.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use dijob_operator::clock::Clock;
use dijob_operator::dataworks::{HttpTransport, Timeouts, Transport as _};
use serde_json::Value;

/// The dispatcher. It listens as long as the process lives.
pub struct Sts {
    address: SocketAddr,
    tenants: Mutex<BTreeMap<String, String>>,
    lent: Mutex<Vec<String>>,
}

/// Started by whichever test needs it first, in a thread and a runtime of its own.
pub fn sts() -> &'static Arc<Sts> {
    static STS: OnceLock<Arc<Sts>> = OnceLock::new();
    STS.get_or_init(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let sts = Arc::new(Sts { address, tenants: Mutex::default(), lent: Mutex::default() });
        let served = sts.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let transport = Arc::new(HttpTransport::new(Clock::system(), Timeouts::default()).unwrap());
                let app = axum::Router::new().fallback(pass_on).with_state((served, transport));
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), app).await.unwrap();
            });
        });
        sts
    })
}

impl Sts {
    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Calls that name this tenant go to its cloud: its key is `LTAI-<name>`, its role `role/<name>`.
    pub fn serve(&self, name: &str, url: &str) {
        self.tenants.lock().unwrap().insert(name.to_owned(), url.to_owned());
    }

    /// Secrets and tokens that were lent so far, and tokens that were shown for them.
    pub fn lent(&self) -> Vec<String> {
        self.lent.lock().unwrap().clone()
    }

    /// Where a call belongs: the longest name of a tenant behind one of the marks.
    fn target(&self, head: &str, form: &str) -> Option<String> {
        let tenants = self.tenants.lock().unwrap();
        let named = |text: &str, mark: &str| {
            let name = text.split_once(mark)?.1.split(['&', '%']).next()?;
            tenants.get(name).cloned()
        };
        let of_key = named(head, "AccessKeyId=LTAI-");
        of_key.or_else(|| named(form, "role%2F")).or_else(|| tenants.get("machine").cloned())
    }
}

async fn pass_on(State((sts, transport)): State<(Arc<Sts>, Arc<HttpTransport>)>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let form = to_bytes(body, 1 << 20).await.unwrap().to_vec();
    let path = head.uri.path_and_query().unwrap().as_str().to_owned();
    let text = std::str::from_utf8(&form).unwrap();
    if let Some((_, token)) = text.split_once("OIDCToken=") {
        sts.lent.lock().unwrap().extend(token.split('&').next().map(str::to_owned));
    }
    let Some(url) = sts.target(&path, text) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    head.uri = format!("{url}{path}").parse().unwrap();
    let Ok(answer) = transport.send(http::Request::from_parts(head, form)).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if let Ok(told) = serde_json::from_slice::<Value>(answer.body()) {
        for holder in [&told, &told["Credentials"]] {
            let secrets = ["AccessKeySecret", "SecurityToken"].map(|name| holder[name].as_str().map(str::to_owned));
            sts.lent.lock().unwrap().extend(secrets.into_iter().flatten());
        }
    }
    answer.map(axum::body::Body::from).into_response()
}
