//! DataWorksAccount: with which key, in which region and within which quota calls are made.

#![expect(clippy::duplicated_attributes, reason = "printer columns repeat their keys")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OBJECT_NAME;
use super::account_status::AccountStatus;

/// An account of Alibaba Cloud DataWorks: region, edition and credentials for the jobs that name it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "dijob.dev",
    version = "v1alpha1",
    kind = "DataWorksAccount",
    namespaced,
    shortname = "dwa",
    category = "dataworks",
    status = "AccountStatus",
    doc = "Region, edition and credentials with which jobs are called.",
    derive = "PartialEq",
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.regionId"),
    printcolumn(name = "Endpoint", type_ = "string", priority = 1, json_path = ".spec.endpoint"),
    printcolumn(name = "Edition", type_ = "string", json_path = ".spec.edition"),
    printcolumn(name = "Secret", type_ = "string", priority = 1, json_path = ".spec.credentials.secretRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Left-Today", type_ = "integer", json_path = ".status.callsLeftToday"),
    printcolumn(name = "Throttled-Until", type_ = "string", json_path = ".status.throttledUntil"),
    printcolumn(name = "Jobs", type_ = "integer", json_path = ".status.jobs"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.regionId) != has(self.endpoint)")
        .message("set exactly one of regionId (usual) and endpoint (a gateway or a test server)"),
    validation = Rule::new("self.network == 'Public' || has(self.regionId)")
        .message("network: VPC needs regionId; with endpoint, name the VPC host itself"),
    validation = Rule::new("!has(oldSelf.regionId) || (has(self.regionId) && self.regionId == oldSelf.regionId)")
        .message("regionId cannot change, it says which jobs the ids mean: create another DataWorksAccount and point accountRef at it"),
    validation = Rule::new("!has(self.quota) || self.edition == 'Enterprise' || ((!has(self.quota.readsPerSecond) || self.quota.readsPerSecond <= 5) && (!has(self.quota.writesPerSecond) || self.quota.writesPerSecond <= 5) && (self.edition != 'Basic' || !has(self.quota.callsPerDay) || self.quota.callsPerDay <= 100))")
        .message("only edition Enterprise allows more than 5 calls per second; edition Basic allows 100 calls a day, failed ones included")
)]
pub struct DataWorksAccountSpec {
    /// regionId is the region of the jobs, e.g. cn-shanghai. Exactly one of regionId and endpoint. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z]{2,}(-[a-z0-9]+)+$"))]
    pub region_id: Option<String>,
    /// endpoint is the https URL of a gateway, instead of regionId; http only for a loopback host, where the operator allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(
        validation = Rule::new("isURL(self) && url(self).getHostname() != '' && (url(self).getScheme() == 'https' || (url(self).getScheme() == 'http' && url(self).getHostname() in ['127.0.0.1','localhost','::1','[::1]']))")
            .message("endpoint is an https URL; http is only for a loopback host and only where the operator allows it"),
        validation = Rule::new("!isURL(self) || (url(self).getEscapedPath() in ['', '/'] && url(self).getQuery().size() == 0 && !self.contains('@') && !self.contains('#'))")
            .message("endpoint is a scheme and a host, without path, query, fragment or user name")
    )]
    pub endpoint: Option<String>,
    /// network over which the region's hosts are reached: Public, or VPC from inside the region's network. VPC needs regionId.
    #[serde(default)]
    pub network: Network,
    /// dataworksVersion of the API that is called. With 2024-05-18 the cloud does not tell when a job was last started: an edition below Enterprise may have this version only.
    #[serde(default)]
    pub dataworks_version: DataworksVersion,
    /// signature with which requests are signed.
    #[serde(default)]
    pub signature: Signature,
    /// edition of DataWorks that the account has bought: it sets the quota. Basic: 5 calls a second and 100 a day; Standard and Professional: 5 a second; Enterprise: 50 reads and 20 writes a second.
    pub edition: Edition,
    /// quota lowers or corrects what the edition allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<AccountQuota>,
    /// allowedProjects are the ids of the DataWorks workspaces whose jobs may be started. Absent: any. A guard against mistakes, not a boundary: who may edit the account may edit this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(range(min = 1)))]
    pub allowed_projects: Vec<i64>,
    /// credentials to sign calls with.
    pub credentials: Credentials,
}

/// Networks of the cloud's hosts.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// `dataworks.<region>.aliyuncs.com`
    #[default]
    Public,
    /// `dataworks-vpc.<region>.aliyuncs.com`
    #[serde(rename = "VPC")]
    Vpc,
}

/// Versions of the API.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataworksVersion {
    /// Asks for edition Enterprise.
    #[default]
    #[serde(rename = "2020-05-18")]
    V2020,
    /// For edition Basic and higher.
    #[serde(rename = "2024-05-18")]
    V2024,
}

/// Signatures of requests.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signature {
    /// HMAC-SHA1, in the query.
    #[default]
    #[serde(rename = "HMAC-SHA1")]
    HmacSha1,
    /// ACS3-HMAC-SHA256, in a header.
    #[serde(rename = "ACS3-HMAC-SHA256")]
    Acs3HmacSha256,
}

/// Editions of DataWorks.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    /// 5 calls a second, 100 calls a day.
    Basic,
    /// 5 calls a second.
    Standard,
    /// 5 calls a second.
    Professional,
    /// 50 reads and 20 writes a second.
    Enterprise,
}

/// Limits that differ from the edition's.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AccountQuota {
    /// readsPerSecond, 1 to 1000. In editions with one limit, the lower of reads and writes is the limit of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub reads_per_second: Option<i32>,
    /// writesPerSecond, 1 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub writes_per_second: Option<i32>,
    /// callsPerDay, 1 to 100000000, failed calls included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub calls_per_day: Option<i32>,
}

/// Where the access key comes from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.secretRef), has(self.oidc), has(self.operatorIdentity)].exists_one(x, x)")
        .message("credentials needs exactly one of secretRef, oidc or operatorIdentity (assumeRole may come on top)")
)]
pub struct Credentials {
    /// secretRef names a Secret in the account's own namespace that holds an access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// oidc names a RAM role that a ServiceAccount of the account's own namespace may play.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<Oidc>,
    /// operatorIdentity: {} takes the operator's own identity, where a flag of the operator names this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_identity: Option<OperatorIdentity>,
    /// assumeRole names a RAM role that is played with what stands beside it. STS lends the keys that calls are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRole>,
}

/// A RAM role.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AssumeRole {
    /// roleArn of the role. Its cloud account is the one whose jobs are called and whose quota it is.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^acs:ram::[0-9]{1,20}:role/[A-Za-z0-9._-]{1,64}$')")
        .message("roleArn looks like acs:ram::123456789012:role/name"))]
    pub role_arn: String,
    /// sessionName under which the role is played; it shows in the cloud's audit log.
    #[serde(default = "session_name")]
    #[schemars(length(min = 2, max = 64), regex(pattern = r"^[A-Za-z0-9.@_-]{2,64}$"))]
    pub session_name: String,
    /// externalId that the role's trust policy asks for. Absent: it asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224), regex(pattern = r"^[A-Za-z0-9+=,.@:/_-]+$"))]
    pub external_id: Option<String>,
}

/// Under which name roles are played unless another one is given.
pub const SESSION_NAME: &str = "dijob-operator";

fn session_name() -> String {
    SESSION_NAME.to_owned()
}

/// A RAM role for the bearer of a token.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Oidc {
    /// roleArn of the role. Its trust policy names the provider and the ServiceAccount.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^acs:ram::[0-9]{1,20}:role/[A-Za-z0-9._-]{1,64}$')")
        .message("roleArn looks like acs:ram::123456789012:role/name"))]
    pub role_arn: String,
    /// oidcProviderArn of the identity provider in RAM that knows this cluster.
    #[schemars(length(min = 1, max = 192))]
    #[x_kube(validation = Rule::new("self.matches('^acs:ram::[0-9]{1,20}:oidc-provider/[A-Za-z0-9._-]{1,128}$')")
        .message("oidcProviderArn looks like acs:ram::123456789012:oidc-provider/name"))]
    pub oidc_provider_arn: String,
    /// serviceAccountRef names the ServiceAccount whose token is shown to STS.
    pub service_account_ref: ServiceAccountRef,
}

/// The operator's own identity: nothing of it can be said here.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorIdentity {}

/// A ServiceAccount in the account's own namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// name of the ServiceAccount.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// A Secret with an access key.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// accessKeyIdKey is the Secret's key that holds the AccessKey ID.
    #[serde(default = "access_key_id")]
    #[schemars(length(min = 1, max = 253))]
    pub access_key_id_key: String,
    /// accessKeySecretKey is the Secret's key that holds the AccessKey secret.
    #[serde(default = "access_key_secret")]
    #[schemars(length(min = 1, max = 253))]
    pub access_key_secret_key: String,
    /// securityTokenKey is the Secret's key that holds the security token of a temporary AccessKey. Absent: the AccessKey is permanent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub security_token_key: Option<String>,
}

fn access_key_id() -> String {
    "accessKeyId".to_owned()
}

fn access_key_secret() -> String {
    "accessKeySecret".to_owned()
}
