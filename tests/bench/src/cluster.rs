//! A real API server and etcd with the shipped CRDs and roles, one account, and jobs.
//!
//! **May touch:** the control plane that it starts; the files in `deploy/base`, as they were when this was built.
//!
//! **Guarantees**
//! 1. etcd waits for the disk, and the operator has the shipped role, no more.
//! 2. A copy of the job's CRD in a group of its own, [`Cluster::bare`], gives objects of the same shape that no operator
//!    looks at.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use control_plane::{ADMIN, ControlPlane, Options};
use dijob_operator::api::{DataIntegrationJob, crds};
use futures::future::ready;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Config, CustomResourceExt as _};
use serde_json::{Value, json};
use simulator::{JobPatch, JobStatus, Simulator};
use tokio::net::UnixStream;

use crate::audit::Audit;
use crate::operator::LIMIT;
use crate::{Failure, KEY, http};

/// Where the jobs are.
pub const NAMESPACE: &str = "bench";
/// As whom the operator works: the shipped service account.
pub const OPERATOR: &str = "system:serviceaccount:dijob-system:dijob-operator";

const BARE_GROUP: &str = "bench.dijob.dev";
const MANIFESTS: [&str; 2] =
    [include_str!("../../../deploy/base/namespace.yaml"), include_str!("../../../deploy/base/rbac.yaml")];

/// A running cluster.
pub struct Cluster {
    /// Who wrote what.
    pub audit: Audit,
    /// The admin's client; it repeats nothing by itself.
    pub client: Client,
    /// The operator's kubeconfig.
    pub kubeconfig: PathBuf,
    plane: ControlPlane,
}

impl Cluster {
    /// Starts it and installs all but the operator.
    pub async fn start(cloud: &Simulator) -> Result<Self, Failure> {
        let audit = Audit::new()?;
        let options = Options {
            users: vec![OPERATOR.to_owned()],
            audit_log: Some(audit.path()),
            fsync: true,
            controller_manager: false,
        };
        // Blocks for seconds, or for minutes if Go has to build: an interrupt must not wait for it.
        let plane = tokio::task::spawn_blocking(move || ControlPlane::start(&options)).await??;
        let kubeconfig = plane.directory().join("operator.kubeconfig");
        plane.write_kubeconfig(OPERATOR, &kubeconfig)?;
        let admin = Kubeconfig::from_yaml(&plane.kubeconfig_yaml(ADMIN)?)?;
        let mut config = Config::from_custom_kubeconfig(admin, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        let cluster = Self { audit, client: Client::try_from(config)?, kubeconfig, plane };
        cluster.install(&cloud.url()).await?;
        Ok(cluster)
    }

    async fn install(&self, endpoint: &str) -> Result<(), Failure> {
        let mut kinds = crds();
        let mut bare = DataIntegrationJob::crd();
        bare.metadata.name = Some(format!("{}.{BARE_GROUP}", bare.spec.names.plural));
        BARE_GROUP.clone_into(&mut bare.spec.group);
        kinds.push(bare);
        for crd in &kinds {
            self.create(serde_json::to_value(crd)?).await?;
        }
        for crd in &kinds {
            let name = crd.metadata.name.as_deref().unwrap_or_default();
            let established = await_condition(Api::all(self.client.clone()), name, is_crd_established());
            tokio::time::timeout(LIMIT, established).await.map_err(|_| format!("CRD {name} is not served"))??;
        }
        for manifest in MANIFESTS {
            for object in serde_saphyr::from_multiple::<Value>(manifest)? {
                self.create(object).await?;
            }
        }
        self.create_namespace(NAMESPACE).await?;
        self.create_account(NAMESPACE, endpoint, "Enterprise").await
    }

    /// A namespace with a key, and no account yet.
    pub async fn create_namespace(&self, name: &str) -> Result<(), Failure> {
        self.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await?;
        self.create(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": name},
            "stringData": {"accessKeyId": KEY.0, "accessKeySecret": KEY.1},
        }))
        .await
    }

    /// The account that the jobs of a namespace name by default.
    pub async fn create_account(&self, namespace: &str, endpoint: &str, edition: &str) -> Result<(), Failure> {
        self.create(json!({
            "apiVersion": "dijob.dev/v1alpha1", "kind": "DataWorksAccount",
            "metadata": {"name": "default", "namespace": namespace},
            "spec": {"endpoint": endpoint, "edition": edition, "credentials": {"secretRef": {"name": "key"}}},
        }))
        .await
    }

    async fn create(&self, object: Value) -> Result<(), Failure> {
        let object: DynamicObject = serde_json::from_value(object)?;
        let types = object.types.as_ref().ok_or("an object without a kind")?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        api.create(&PostParams::default(), &object).await?;
        Ok(())
    }

    /// The jobs.
    pub fn jobs(&self) -> Api<DataIntegrationJob> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Objects that look like jobs and belong to nobody.
    pub fn bare(&self) -> Api<DynamicObject> {
        let resource = ApiResource { group: BARE_GROUP.to_owned(), ..ApiResource::erase::<DataIntegrationJob>(&()) };
        let resource = ApiResource { api_version: format!("{BARE_GROUP}/{}", resource.version), ..resource };
        Api::namespaced_with(self.client.clone(), NAMESPACE, &resource)
    }

    /// Makes jobs that already run in the cloud, so that the operator adopts them.
    pub async fn create_running_jobs(&self, ids: std::ops::Range<i64>, cloud: &Arc<Simulator>) -> Result<(), Failure> {
        let (api, hour_ago) = (self.jobs(), cloud.now().as_second() - 3600);
        let create = |id: i64| {
            let running =
                JobPatch { status: Some(JobStatus::Running), started_time: Some(hour_ago), ..JobPatch::default() };
            cloud.put_job(id, &running);
            let (api, job) = (api.clone(), job(id));
            async move { api.create(&PostParams::default(), &job?).await.map_err(Failure::from) }
        };
        futures::stream::iter(ids.map(create)).buffer_unordered(16).try_for_each(|_| async { Ok(()) }).await
    }

    /// Makes jobs that ask for an ordinary first start.
    pub async fn create_jobs(&self, namespace: &str, ids: std::ops::Range<i64>) -> Result<(), Failure> {
        let api: Api<DataIntegrationJob> = Api::namespaced(self.client.clone(), namespace);
        let create = |id: i64| {
            let job = serde_json::from_value(json!({
                "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob",
                "metadata": {"name": name(id), "namespace": namespace}, "spec": {"diJobId": id},
            }));
            let api = api.clone();
            async move {
                let job = job?;
                let mut created = api.create(&PostParams::default(), &job).await;
                if matches!(created, Err(kube::Error::Service(_))) {
                    // Among thousands, one may meet a connection that has just been closed.
                    created = api.create(&PostParams::default(), &job).await;
                }
                match created {
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(()), // the first request arrived
                    Err(error) => Err(Failure::from(error)),
                    Ok(_) => Ok(()),
                }
            }
        };
        futures::stream::iter(ids.map(create)).buffer_unordered(16).try_for_each(|()| async { Ok(()) }).await
    }

    /// Waits until all jobs of a namespace have a status.
    pub async fn until_seen(&self, namespace: &str) -> Result<(), Failure> {
        let api: Api<DataIntegrationJob> = Api::namespaced(self.client.clone(), namespace);
        let is_seen =
            |job: &DataIntegrationJob| job.status.as_ref().is_some_and(|status| !status.conditions.is_empty());
        let wait = async {
            while !api.list(&ListParams::default()).await?.iter().all(is_seen) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(())
        };
        let late = |_| format!("not all jobs of {namespace} have a status after {LIMIT:?}");
        tokio::time::timeout(LIMIT, wait).await.map_err(late)?
    }

    /// Takes all jobs away.
    pub async fn delete_jobs(&self) -> Result<(), Failure> {
        let (delete, all) = (DeleteParams::default(), ListParams::default());
        self.jobs().delete_collection(&delete, &all).await?;
        Ok(())
    }

    /// Takes these jobs away, one by one: of thousands, the server would not end in the time that it gives one request.
    /// What is left for any reason only makes noise.
    pub async fn discard_jobs(&self, namespace: &str, ids: std::ops::Range<i64>) {
        let api: Api<DataIntegrationJob> = Api::namespaced(self.client.clone(), namespace);
        let discard = |id: i64| {
            let api = api.clone();
            async move { api.delete(&name(id), &DeleteParams::default()).await.is_ok() }
        };
        let gone = futures::stream::iter(ids.clone().map(discard)).buffer_unordered(16).filter(|gone| ready(*gone));
        let (gone, all) = (gone.count().await, ids.count());
        if gone < all {
            eprintln!("{} of {all} jobs of {namespace} could not be taken away", all - gone);
        }
    }

    /// Versions of the API server and of etcd.
    pub async fn versions(&self) -> Result<(String, String), Failure> {
        let server = self.client.apiserver_version().await?.git_version;
        let socket = UnixStream::connect(self.plane.directory().join("etcd.sock")).await?;
        let (_, body) = http::get(socket, "/version").await?;
        let etcd: Value = serde_json::from_str(&body)?;
        let etcd = etcd.get("etcdserver").and_then(Value::as_str).unwrap_or("of unknown version");
        Ok((server, etcd.to_owned()))
    }
}

/// The name of the object for a job of the cloud.
pub fn name(id: i64) -> String {
    format!("job-{id}")
}

fn job(id: i64) -> Result<DataIntegrationJob, serde_json::Error> {
    serde_json::from_value(json!({
        "apiVersion": "dijob.dev/v1alpha1", "kind": "DataIntegrationJob",
        "metadata": {"name": name(id), "namespace": NAMESPACE},
        "spec": {"diJobId": id, "realtimeStartSettings": {"startTime": 1_671_516_776}},
    }))
}
