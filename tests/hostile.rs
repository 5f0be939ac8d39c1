//! Endpoints that lead where no call may go, given to the real operator as an account's: no byte leaves for them, and the
//! job that names the account is told why.
//!
//! Nothing leaves this machine: a library that is preloaded into the operator answers its lookups, and brings every
//! connection beyond loopback to one of two listeners here. *Inside* is what may never be called, also by its own
//! address; *outside* stands for the rest of the world, and shows that lookups and listeners work.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use dijob_operator::api::DataWorksAccount;
use futures::future::join_all;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

#[path = "support"]
#[expect(dead_code, reason = "this test uses a part of what the tests share")]
mod support {
    pub mod plan;
    pub mod proxy;
    pub mod schema;
    pub mod world;
}

use support::proxy::{Proxy, Upstream};
use support::world::tenant::Tenant;
use support::world::{Cluster, FLAGS, Operator, is_stalled, ready};

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start)
}

/// Takes connections, counts their bytes, and answers each request that ends in a blank line with the same text.
struct Listener {
    port: u16,
    bytes: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Listener {
    async fn start(answer: &'static str) -> Self {
        let v4 = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = v4.local_addr().unwrap().port();
        let v6 = TcpListener::bind(("::1", port)).await.unwrap();
        let bytes = Arc::<AtomicUsize>::default();
        let mut tasks = JoinSet::new();
        for listener in [v4, v6] {
            let bytes = Arc::clone(&bytes);
            tasks.spawn(async move {
                let mut connections = JoinSet::new();
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let bytes = Arc::clone(&bytes);
                    bytes.fetch_add(1, Ordering::Relaxed); // a connection counts as much as a byte
                    connections.spawn(async move {
                        let mut buffer = [0; 4096];
                        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                            bytes.fetch_add(read, Ordering::Relaxed);
                            if stream.write_all(answer.as_bytes()).await.is_err() {
                                return;
                            }
                        }
                    });
                }
            });
        }
        Self { port, bytes, _tasks: tasks }
    }

    /// Bytes, and connections, so far.
    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The roads of one operator.
struct Roads {
    inside: Listener,
    outside: Listener,
    /// What the environment names as proxy.
    environment: Listener,
    names: PathBuf,
    library: PathBuf,
}

impl Roads {
    /// `names`: a line for each name and its addresses.
    async fn open(test: &str, names: &str) -> Self {
        let file = |end: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{test}.{end}"));
        let (library, table) = (file("so"), file("names"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile/names.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status().unwrap();
        assert!(built.success(), "the compiler that links Rust also builds {source}");
        std::fs::write(&table, names).unwrap();
        Self {
            inside: Listener::start("").await,
            outside: Listener::start("").await,
            environment: Listener::start("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await,
            names: table,
            library,
        }
    }

    /// An operator on them, which is shown one namespace, with these flags.
    async fn operator(&self, namespace: &str, flags: &[&str]) -> (Operator, Proxy) {
        let (url, authority) = tokio::task::spawn_blocking(|| cluster().server()).await.unwrap();
        let proxy = Proxy::start(Upstream::https(&url, &authority).within(namespace)).await;
        let through = format!("http://127.0.0.1:{}", self.environment.port);
        let operator = tokio::task::block_in_place(|| {
            cluster().plain_operator(proxy.url(), namespace, |command| {
                command.args(flags).env("LD_PRELOAD", &self.library).env("NAMES_FILE", &self.names);
                command.env("INSIDE_PORT", self.inside.port.to_string());
                command.env("OUTSIDE_PORT", self.outside.port.to_string());
                for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
                    command.env(name, &through);
                }
            })
        });
        (operator, proxy)
    }
}

/// Applies an account with this endpoint: whether the API server took it.
async fn try_account(tenant: &Tenant, name: &str, endpoint: &str) -> bool {
    let mut spec = tenant.account_spec();
    spec["endpoint"] = json!(endpoint);
    let api: Api<DataWorksAccount> = Api::namespaced(tenant.client.clone(), &tenant.namespace);
    let body = json!({
        "apiVersion": "dijob.dev/v1alpha1", "kind": "DataWorksAccount", "metadata": { "name": name }, "spec": spec,
    });
    match api.patch(name, &PatchParams::apply("user").force(), &Patch::Apply(&body)).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.code == 422 => false,
        Err(error) => panic!("{endpoint}: {error}"),
    }
}

/// Hosts that no endpoint may have; all but the names lead to a listener of ours, if anything is sent.
const HOSTS: [&str; 30] = [
    "169.254.169.254",
    "100.100.100.200",
    "[fd00:ec2::254]",
    "127.0.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "0.0.0.0",
    "[::]",
    "localhost",
    "LocalHost.",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0x7f000001",
    "0x7f.1",
    "127.1",
    "10.0.0.1",
    "192.168.0.1",
    "evilaliyuncs.com",
    "dataworks.cn-shanghai.evilaliyuncs.com",
    "aliyuncs.com.evil.test",
    "dataworks.cn-shanghai.aliyuncs.com.evil.test",
    "bucket.oss-cn-shanghai.aliyuncs.com",
    "xn--dataworks-9za.cn-shanghai.aliyuncs.com",
    "dataworks.cn-shanghai.xn--aliyuncs-9za.com",
    "x@127.0.0.1",
    "dataworks.cn-shanghai.aliyuncs.com@127.0.0.1",
    "kubernetes.default.svc",
    "metadata.google.internal",
];

/// Covers: 35p.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_no_rule_allows_gets_no_byte_and_its_job_says_why() {
    // Whatever name gets through leads inside.
    let names = HOSTS.map(|host| format!("{host} 127.0.0.1")).join("\n");
    let roads = Roads::open("hosts", &names).await;
    let tenant = Tenant::new(tokio::task::spawn_blocking(cluster).await.unwrap(), "hosts").await;
    tenant.put_key().await;
    let (operator, _proxy) = roads.operator("hosts", &FLAGS).await;
    let urls = HOSTS
        .iter()
        .flat_map(|host| ["http", "https"].map(|scheme| format!("{scheme}://{host}:{}", roads.inside.port)));
    let mut taken = 0;
    for (at, url) in urls.enumerate() {
        let name = format!("host-{at}");
        if try_account(&tenant, &name, &url).await {
            taken += 1;
            tenant.apply(&name, &json!({ "diJobId": at + 1, "accountRef": { "name": name } })).await;
            let job = tenant.until_reason(&name, "AccountInvalid").await;
            let message = &ready(&job).unwrap().message;
            let hints = [
                "must begin with",
                "must be a scheme",
                "not a plain host name",
                "must name its host",
                "--allow-insecure-endpoints",
                "is not a DataWorks host: set regionId",
            ];
            assert!(is_stalled(&job) && hints.iter().any(|hint| message.contains(hint)), "{url}: {message}");
        }
    }
    assert!(taken >= HOSTS.len() / 2, "the API server refused all but {taken}: the operator was not asked");
    assert_eq!((roads.inside.bytes(), roads.outside.bytes(), roads.environment.bytes()), (0, 0, 0));
    tenant.end(&[&operator]).await;
}

/// Covers: 35p.
#[tokio::test(flavor = "multi_thread")]
async fn a_good_name_that_leads_inside_gets_no_byte_also_if_it_led_elsewhere_when_it_was_checked() {
    let inside = [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "100.100.100.200",
        "fd00:ec2::254",
        "fe80::1",
        "224.0.0.1",
        "255.255.255.255",
    ];
    let name = |at: usize| format!("dataworks.cn-a{at}.aliyuncs.com");
    // The last one: by turns outside and inside. Who looks a name up twice, once for the check and once for the
    // connection, goes inside with the second.
    let turning = inside.len();
    let mut table: Vec<String> = (0..).zip(inside).map(|(at, address)| format!("{} {address}", name(at))).collect();
    table.push(format!("{} 203.0.113.9 127.0.0.1", name(turning)));
    let roads = Roads::open("names", &table.join("\n")).await;
    let tenant = Tenant::new(tokio::task::spawn_blocking(cluster).await.unwrap(), "names").await;
    tenant.put_key().await;
    let (operator, _proxy) = roads.operator("names", &FLAGS).await;
    for at in 0..inside.len() {
        let name = name(at);
        assert!(try_account(&tenant, &name, &format!("https://{name}:{}", roads.inside.port)).await);
        tenant.apply(&name, &json!({ "diJobId": at + 1, "accountRef": { "name": name } })).await;
    }
    join_all((0..inside.len()).map(async |at| {
        let job = tenant.until_reason(&name(at), "CloudUnavailable").await;
        let message = &ready(&job).unwrap().message;
        assert!(message.contains("leads to no address that may be called"), "{}: {message}", inside[at]);
    }))
    .await;
    assert_eq!((roads.inside.bytes(), roads.outside.bytes()), (0, 0));

    let turning = name(turning);
    assert!(try_account(&tenant, &turning, &format!("https://{turning}:{}", roads.inside.port)).await);
    tenant.apply(&turning, &json!({ "diJobId": 99, "accountRef": { "name": turning } })).await;
    let attempts = |job: &dijob_operator::api::DataIntegrationJob| job.status.as_ref().is_some_and(|s| s.attempts >= 3);
    tenant.until(&turning, "three attempts", attempts).await;
    assert!(roads.outside.bytes() > 0, "the address that was checked is the one that was called");
    assert_eq!((roads.inside.bytes(), roads.environment.bytes()), (0, 0));
    tenant.end(&[&operator]).await;
}

/// Covers: 35p.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_a_metadata_service_is_not_followed_and_no_proxy_of_the_environment_is_used() {
    let roads = Roads::open("redirect", "localhost 127.0.0.1\n").await;
    let tenant = Tenant::new(tokio::task::spawn_blocking(cluster).await.unwrap(), "redirect").await;
    tenant.put_key().await;
    let flags = [&FLAGS[..], &["--allow-insecure-endpoints"]].concat();
    let (operator, _proxy) = roads.operator("redirect", &flags).await;
    let answers = [
        "HTTP/1.1 301 Moved\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://100.100.100.200/latest/meta-data/\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 307 Moved\r\nLocation: http://[fd00:ec2::254]/latest/meta-data/\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 308 Moved\r\nLocation: http://203.0.113.9/\r\nContent-Length: 0\r\n\r\n",
    ];
    let mut clouds = Vec::new();
    for (answer, at) in answers.into_iter().zip(1..) {
        let (cloud, name) = (Listener::start(answer).await, format!("redirect-{at}"));
        assert!(try_account(&tenant, &name, &format!("http://127.0.0.1:{}", cloud.port)).await);
        tenant.apply(&name, &json!({ "diJobId": at, "accountRef": { "name": name } })).await;
        clouds.push((cloud, name));
    }
    join_all(clouds.iter().map(async |(cloud, name)| {
        let attempts =
            |job: &dijob_operator::api::DataIntegrationJob| job.status.as_ref().is_some_and(|s| s.attempts >= 2);
        let job = tenant.until(name, "two attempts", attempts).await;
        assert!(cloud.bytes() > 0, "{name} was not called: {:?}", ready(&job));
    }))
    .await;
    assert_eq!((roads.inside.bytes(), roads.outside.bytes(), roads.environment.bytes()), (0, 0, 0));
    tenant.end(&[&operator]).await;
}
