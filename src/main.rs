//! The binary: flags to clients to tasks. It joins every task; the end of one ends the process.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use dijob_operator::api::SESSION_NAME;
use dijob_operator::clock::Clock;
use dijob_operator::config::{Config, LogFormat, OwnIdentity, WRITE_LIMIT};
use dijob_operator::controller::{self, Base, CredentialSettings, Parts, startup};
use dijob_operator::dataworks::{
    AccessKey, Client as Cloud, Endpoint, HostRules, HttpTransport, Role as RamRole, Timeouts,
};
use dijob_operator::health::Health;
use dijob_operator::lease::{self, Role};
use dijob_operator::plan::observed::Settings;
use dijob_operator::server;
use dijob_operator::telemetry::{self, Metrics};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::timeout::TimeoutLayer;

type Failure = Box<dyn std::error::Error>;

/// How long a process that lost its lease may still record answers to its own calls. The records are guarded by the
/// object's version, so they can do no harm.
const LAST_RECORDS: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let config = Config::load();
    if let Err(problem) = telemetry::init_logs(&config.log, config.log_format == LogFormat::Json) {
        eprintln!("dijob-operator: {problem}");
        return ExitCode::from(2);
    }
    // Fails only if a provider is set already, and then it is this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            tracing::error!(%problem, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    match credentials(&config).and_then(|credentials| runtime.block_on(run(config, credentials))) {
        Ok(code) => code,
        Err(problem) => {
            tracing::error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config, credentials: CredentialSettings) -> Result<ExitCode, Failure> {
    let clock = Clock::system();
    let (health, metrics) = (Health::new(clock.clone()), Metrics::new());
    let encoded = metrics.clone();
    let listen = server::serve(config.listen, health.clone(), move || encoded.encode())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %listen, "dijob-operator starts");

    let stop = CancellationToken::new();
    let signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(stop_on_signal(signals, stop.clone(), health.clone()));

    let kube_config = kube_config(&config).await?;
    let default_namespace = kube_config.default_namespace.clone();
    let (client, lease_client) = kube_clients(kube_config)?;
    if !wait_for_kinds(&client, &health, &stop).await {
        return Ok(ExitCode::SUCCESS);
    }

    let name = config.pod_name.clone().unwrap_or_else(|| "dijob-operator".to_owned());
    let identity = format!("{name}_{}", clock.nonce().get(..8).unwrap_or_default());
    let (role_sender, role) = watch::channel(Role::Follower);
    // The elector outlives the controller: the lease is released only when no pass runs any more.
    let release = CancellationToken::new();
    let elector = if config.leader_elect {
        let settings = lease::Settings {
            namespace: config.lease_namespace.clone().unwrap_or(default_namespace),
            name: config.lease_name.clone(),
            identity: identity.clone(),
            lease_duration: config.lease_duration,
            renew_deadline: config.renew_deadline,
            retry_period: config.retry_period,
        };
        tokio::spawn(lease::run(lease_client, settings, clock.clone(), role_sender, release.clone()))
    } else {
        let ended = release.clone();
        role_sender.send_replace(Role::always(identity.clone()));
        tokio::spawn(async move {
            ended.cancelled().await;
            drop(role_sender);
        })
    };
    let watched = tokio::spawn(watch_role(role.clone(), metrics.clone()));

    let shared = Shared { clock, health, metrics, client, role: role.clone(), identity };
    let parts = parts(&config, credentials, shared)?;
    let lost = until_lost(role.clone());
    tokio::select! {
        () = controller::run(parts, stop.clone()) => {}
        () = lost => tracing::error!("some passes had not ended when the time for their records was over"),
    }
    if *role.borrow() == Role::Lost {
        tracing::error!("the lease is lost: this process ends, so that the next leader works alone");
        return Ok(ExitCode::FAILURE);
    }
    release.cancel();
    elector.await?;
    watched.abort();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// What the controller shares with the rest of this process.
struct Shared {
    clock: Clock,
    health: Health,
    metrics: Metrics,
    client: kube::Client,
    role: watch::Receiver<Role>,
    identity: String,
}

/// What flags say of credentials; only here it is known what an endpoint is.
fn credentials(config: &Config) -> Result<CredentialSettings, Failure> {
    let endpoint = |url: &String| {
        let endpoint = Endpoint::of_flag(url, config.allow_insecure_endpoints);
        endpoint.map_err(|problem| format!("--sts-endpoint: {problem}"))
    };
    Ok(CredentialSettings {
        sts_endpoint: config.sts_endpoint.as_ref().map(endpoint).transpose()?,
        own_identity_namespaces: config.operator_identity_namespaces.clone(),
        own_identity: own_identity(config)?,
    })
}

fn own_identity(config: &Config) -> Result<Option<Base>, Failure> {
    Ok(match config.own_identity.clone() {
        OwnIdentity::None => None,
        OwnIdentity::Key { id, secret, security_token } => {
            let key = AccessKey::new(&id, &secret.0, security_token.as_ref().map(|token| token.0.as_str()));
            Some(Base::Key(key.map_err(|problem| format!("the AccessKey in ALIBABA_CLOUD_ACCESS_KEY_ID: {problem}"))?))
        }
        OwnIdentity::TokenFile { path, provider_arn, role_arn, session_name } => {
            let session_name = session_name.unwrap_or_else(|| SESSION_NAME.to_owned());
            let role = RamRole { arn: role_arn, session_name, external_id: None };
            Some(Base::TokenFile { path, provider_arn, role })
        }
        OwnIdentity::Machine { role } => Some(Base::Machine { endpoint: metadata(config)?, role }),
    })
}

fn metadata(config: &Config) -> Result<Endpoint, Failure> {
    let Some(url) = &config.metadata_endpoint else { return Ok(Endpoint::of_metadata()) };
    let endpoint = Endpoint::of_flag(url, config.allow_insecure_endpoints)
        .map_err(|problem| format!("--metadata-endpoint: {problem}"))?;
    if endpoint.is_plain() { Ok(endpoint) } else { Err("--metadata-endpoint: it is http on a loopback host".into()) }
}

fn parts(config: &Config, credentials: CredentialSettings, shared: Shared) -> Result<Parts, Failure> {
    let Shared { clock, health, metrics, client, role, identity } = shared;
    let timeouts = Timeouts { connect: config.connect_timeout, write: WRITE_LIMIT, total: config.call_timeout };
    let transport = HttpTransport::new(clock.clone(), timeouts)?;
    Ok(Parts {
        client,
        cloud: Cloud::new(Arc::new(transport)),
        clock,
        health,
        metrics,
        role,
        hosts: HostRules {
            allow_insecure_endpoints: config.allow_insecure_endpoints,
            allowed_hosts: config.allowed_hosts.clone(),
        },
        credentials,
        settings: Settings { settle: config.settle_time, confirm: config.confirm_timeout, grace: config.missing_grace },
        time_to_send: config.connect_timeout + WRITE_LIMIT,
        passes: usize::from(config.max_concurrent_passes),
        reporter: identity,
    })
}

/// Waits until the lease has been lost for as long as records may take.
async fn until_lost(mut role: watch::Receiver<Role>) {
    if role.wait_for(|role| *role == Role::Lost).await.is_err() {
        return std::future::pending().await; // without an election it cannot be lost
    }
    tokio::time::sleep(LAST_RECORDS).await;
}

async fn watch_role(mut role: watch::Receiver<Role>, metrics: Metrics) {
    loop {
        metrics.leader(matches!(*role.borrow_and_update(), Role::Leader { .. }));
        if role.changed().await.is_err() {
            return;
        }
    }
}

/// The first signal stops in order, the second one at once.
async fn stop_on_signal((mut terminate, mut interrupt): (Signal, Signal), stop: CancellationToken, health: Health) {
    for (count, word) in ["stopping: passes under way end first", "stopping at once"].into_iter().enumerate() {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("{word}");
        health.set_ready(Err("stopping".to_owned()));
        if count > 0 {
            std::process::exit(1);
        }
        stop.cancel();
    }
}

async fn wait_for_kinds(client: &kube::Client, health: &Health, stop: &CancellationToken) -> bool {
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    let kinds = startup::wait_for_kinds(client, health, stop);
    tokio::pin!(kinds);
    loop {
        tokio::select! {
            there = &mut kinds => return there,
            _ = beat.tick() => health.beat(),
        }
    }
}

async fn kube_config(config: &Config) -> Result<kube::Config, Failure> {
    let options = KubeConfigOptions { context: config.context.clone(), ..KubeConfigOptions::default() };
    let (file, mut found) = match (&config.kubeconfig, &config.context) {
        (Some(path), _) => {
            let file = Kubeconfig::read_from(path).map_err(|e| format!("--kubeconfig {}: {e}", path.display()))?;
            let found = kube::Config::from_custom_kubeconfig(file.clone(), &options).await;
            (Some(file), found.map_err(|e| format!("--kubeconfig {}: {e}", path.display()))?)
        }
        (None, Some(_)) => {
            let found = kube::Config::from_kubeconfig(&options).await;
            (Kubeconfig::read().ok(), found.map_err(|e| format!("--context: {e}"))?)
        }
        (None, None) => {
            let found = kube::Config::infer().await.map_err(|e| {
                format!("no way to reach Kubernetes: run in a pod with a service account, or give --kubeconfig ({e})")
            })?;
            (Kubeconfig::read().ok(), found)
        }
    };
    // The client reads the environment's proxy, too: that is for others.
    let proxies =
        file.iter().flat_map(|file| &file.clusters).filter_map(|named| named.cluster.as_ref()?.proxy_url.as_ref());
    let proxies: Vec<http::Uri> = proxies.filter_map(|url| url.parse().ok()).collect();
    match found.proxy_url.take().filter(|proxy| proxies.contains(proxy)) {
        Some(proxy) => {
            Err(format!("the kubeconfig names a proxy, {proxy}, and none is supported: remove proxy-url").into())
        }
        None => Ok(found),
    }
}

/// One client for all, and one with short timeouts and connections of its own for the Lease alone.
fn kube_clients(mut config: kube::Config) -> Result<(kube::Client, kube::Client), Failure> {
    config.default_retry = false; // hidden retries of writes come back as conflicts with ourselves
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(120)); // longer than a quiet watch; ends a body that stalls
    config.reset_reader_on_write = true;
    let main = ClientBuilder::try_from(config.clone())?.with_layer(&TimeoutLayer::new(Duration::from_secs(30))).build();
    config.read_timeout = Some(Duration::from_secs(5));
    Ok((main, kube::Client::try_from(config)?))
}
