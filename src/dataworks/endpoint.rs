//! Where requests may go.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. An [`Endpoint`] is a `DataWorks` host of the cloud, one that the admin allowed by name, or, where allowed, loopback.
//! 2. Its text holds nothing but a scheme, a host and a port: no parser can read another host into it.
//!
//! The grammar is our own and stricter than a URL's (2026-11): a general parser turns odd spellings of a host into plain
//! ones, and two parsers may disagree on which.

use std::fmt;

/// What an admin allows beyond the hosts of the cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRules {
    /// Loopback hosts, over http or https: for tests on one machine.
    pub allow_insecure_endpoints: bool,
    /// Further hosts, each matched as a whole: `host`, over any port, or `host:port`.
    pub allowed_hosts: Vec<String>,
}

/// A place that answers the `DataWorks` API.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    host: String,
    region: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Scheme {
    Http,
    Https,
}

/// Why a text is no endpoint. The display says what to do, and repeats a host name at most.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointProblem {
    /// No `https://`, or `http://` to a host that is not loopback.
    #[error("the endpoint must begin with https://")]
    NotHttps,
    /// More than a scheme, a host and a port.
    #[error("the endpoint must be a scheme and a host: remove its user name, path, query and fragment")]
    MoreThanAHost,
    /// Not a host name, or a bad port.
    #[error("the endpoint's host is not a plain host name: write it in letters, digits, dots and hyphens")]
    Malformed,
    /// An address instead of a name.
    #[error("the endpoint must name its host: an IP address is not allowed")]
    Address,
    /// A loopback host without the flag for it.
    #[error("a loopback endpoint needs the operator's flag --allow-insecure-endpoints")]
    Loopback,
    /// A host that is neither the cloud's nor allowed.
    #[error(
        "{0} is not a DataWorks host: set regionId instead of endpoint, name a host of the form \
         dataworks.<region>.aliyuncs.com, or have the operator's flag --allowed-host name it"
    )]
    NotAllowed(String),
    /// Not a region id.
    #[error("the region id is malformed: it looks like cn-shanghai")]
    Region,
}

impl Endpoint {
    /// The endpoint of a region: the public one, or the one inside the region's own network.
    ///
    /// # Errors
    /// [`EndpointProblem::Region`] if `region` does not look like `cn-shanghai`.
    pub fn of_region(region: &str, vpc: bool) -> Result<Self, EndpointProblem> {
        if !is_region(region) {
            return Err(EndpointProblem::Region);
        }
        let service = if vpc { "dataworks-vpc" } else { "dataworks" };
        let host = format!("{service}.{region}.aliyuncs.com");
        Ok(Self { scheme: Scheme::Https, host, region: Some(region.to_owned()) })
    }

    /// Reads an endpoint. Letter case, one dot at the end of the host, one slash at the end and the scheme's own port make
    /// no difference.
    ///
    /// # Errors
    /// [`EndpointProblem`] if it is malformed or `rules` do not allow it.
    pub fn parse(url: &str, rules: &HostRules) -> Result<Self, EndpointProblem> {
        let url = url.to_ascii_lowercase();
        let (scheme, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (Scheme::Https, rest),
            (_, Some(rest)) => (Scheme::Http, rest),
            (None, None) => return Err(EndpointProblem::NotHttps),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['@', '/', '?', '#', '\\']) {
            return Err(EndpointProblem::MoreThanAHost);
        }
        let (name, port) = split_port(authority)?;
        let own_port = if scheme == Scheme::Https { 443 } else { 80 };
        let called = port.unwrap_or(own_port);
        let port = port.filter(|port| *port != own_port);
        let host = port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        if matches!(name, "localhost" | "127.0.0.1" | "[::1]") {
            let endpoint = Self { scheme, host, region: None };
            return if rules.allow_insecure_endpoints { Ok(endpoint) } else { Err(EndpointProblem::Loopback) };
        }
        if name.starts_with('[') || ends_in_a_number(name) {
            return Err(EndpointProblem::Address);
        }
        if !name.split('.').all(is_label) || name.len() > 253 {
            return Err(EndpointProblem::Malformed);
        }
        if scheme == Scheme::Http {
            return Err(EndpointProblem::NotHttps);
        }
        let region = region_of(name).map(str::to_owned);
        let allows = |allowed: &String| {
            let allowed = allowed.to_ascii_lowercase();
            split_port(&allowed).is_ok_and(|(host, port)| host == name && port.is_none_or(|port| port == called))
        };
        if region.is_some() || rules.allowed_hosts.iter().any(allows) {
            Ok(Self { scheme, host, region })
        } else {
            Err(EndpointProblem::NotAllowed(name.to_owned()))
        }
    }

    /// Reads an endpoint that a flag of the operator names: by that its host is allowed. The rest is as in [`Self::parse`].
    ///
    /// # Errors
    /// [`EndpointProblem`] if it is malformed, not https, or loopback without the flag for it.
    pub fn of_flag(url: &str, allow_insecure_endpoints: bool) -> Result<Self, EndpointProblem> {
        let mut rules = HostRules { allow_insecure_endpoints, allowed_hosts: Vec::new() };
        match Self::parse(url, &rules) {
            Err(EndpointProblem::NotAllowed(name)) => {
                rules.allowed_hosts.push(name);
                Self::parse(url, &rules)
            }
            parsed => parsed,
        }
    }

    /// The metadata service of a machine of the cloud: at an address that no other endpoint can have.
    #[must_use]
    pub fn of_metadata() -> Self {
        Self { scheme: Scheme::Http, host: "100.100.100.200".to_owned(), region: None }
    }

    /// Whether it is plain http, and so loopback or the metadata service.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.scheme == Scheme::Http
    }

    /// The host of STS in the same region and network; absent where no region is known.
    #[must_use]
    pub fn sts(&self) -> Option<Self> {
        let region = self.region()?;
        let service = if self.host.starts_with("dataworks-vpc.") { "sts-vpc" } else { "sts" };
        let host = format!("{service}.{region}.aliyuncs.com");
        Some(Self { scheme: Scheme::Https, host, region: Some(region.to_owned()) })
    }

    /// The host, with its port if that is not the scheme's own: the value of the `Host` header.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The region in the name of a `DataWorks` host; absent for every other host.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Says which jobs an id means here: the region if it is known, else the host.
    #[must_use]
    pub fn identity(&self) -> String {
        self.region.as_ref().unwrap_or(&self.host).clone()
    }

    /// Scheme and host, without a slash at the end.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        format!("{scheme}://{}", self.host)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.origin()).finish()
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), EndpointProblem> {
    let end_of_name = authority.find(']').map_or(0, |end| end + 1);
    let (name, port) = match authority.get(end_of_name..).and_then(|rest| rest.split_once(':')) {
        Some((rest, port)) => (authority.get(..end_of_name + rest.len()).unwrap_or_default(), Some(port)),
        None => (authority, None),
    };
    let port = port
        .map(|port| if port.bytes().all(|byte| byte.is_ascii_digit()) { port.parse().ok() } else { None })
        .map(|port: Option<u16>| port.filter(|port| *port > 0).ok_or(EndpointProblem::Malformed))
        .transpose()?;
    Ok((name.strip_suffix('.').unwrap_or(name), port))
}

/// As the URL standard tells an IPv4 address from a name, in all its spellings: decimal, octal, hexadecimal, short.
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_hex || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Other hosts under this suffix belong to customers, so the whole form is asked for.
fn region_of(name: &str) -> Option<&str> {
    let (service, region) = name.strip_suffix(".aliyuncs.com")?.split_once('.')?;
    (matches!(service, "dataworks" | "dataworks-vpc" | "dataworks-public") && is_region(region)).then_some(region)
}

/// Two letters or more, then groups of letters and digits after hyphens: `cn-shanghai`, `ap-southeast-1`.
fn is_region(text: &str) -> bool {
    let mut groups = text.split('-');
    let first = groups.next().unwrap_or_default();
    let mut rest = groups.peekable();
    text.len() <= 63
        && first.len() >= 2
        && first.bytes().all(|byte| byte.is_ascii_lowercase())
        && rest.peek().is_some()
        && rest.all(|group| {
            !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn rules(allow_insecure_endpoints: bool, hosts: &[&str]) -> HostRules {
        HostRules { allow_insecure_endpoints, allowed_hosts: hosts.iter().map(|host| (*host).to_owned()).collect() }
    }

    #[test]
    fn the_hosts_of_the_cloud_are_allowed_and_name_their_region() {
        for (url, host, region) in [
            ("https://dataworks.cn-shanghai.aliyuncs.com", "dataworks.cn-shanghai.aliyuncs.com", "cn-shanghai"),
            (
                "https://dataworks-vpc.ap-southeast-1.aliyuncs.com/",
                "dataworks-vpc.ap-southeast-1.aliyuncs.com",
                "ap-southeast-1",
            ),
            (
                "https://dataworks-public.us-west-1.aliyuncs.com:443",
                "dataworks-public.us-west-1.aliyuncs.com",
                "us-west-1",
            ),
            ("HTTPS://DataWorks.CN-Shanghai.AliYunCS.com.", "dataworks.cn-shanghai.aliyuncs.com", "cn-shanghai"),
            (
                "https://dataworks.cn-north-2-gov-1.aliyuncs.com.:8443/",
                "dataworks.cn-north-2-gov-1.aliyuncs.com:8443",
                "cn-north-2-gov-1",
            ),
        ] {
            let endpoint = Endpoint::parse(url, &HostRules::default()).unwrap();
            assert_eq!((endpoint.host(), endpoint.region()), (host, Some(region)), "{url}");
            assert_eq!(endpoint.identity(), region);
            assert_eq!(endpoint.origin(), format!("https://{host}"));
        }
    }

    #[test]
    fn sts_is_in_the_region_and_network_of_a_known_host_and_nowhere_else() {
        let sts = |endpoint: Endpoint| endpoint.sts().map(|sts| sts.origin());
        let of_region = |vpc| Endpoint::of_region("cn-shanghai", vpc).unwrap();
        assert_eq!(sts(of_region(false)).as_deref(), Some("https://sts.cn-shanghai.aliyuncs.com"));
        assert_eq!(sts(of_region(true)).as_deref(), Some("https://sts-vpc.cn-shanghai.aliyuncs.com"));
        let parse = |url| Endpoint::parse(url, &rules(true, &["gateway.example"])).unwrap();
        for (url, expected) in [
            ("https://dataworks-vpc.cn-beijing.aliyuncs.com:8443", Some("https://sts-vpc.cn-beijing.aliyuncs.com")),
            ("https://dataworks-public.cn-beijing.aliyuncs.com", Some("https://sts.cn-beijing.aliyuncs.com")),
            ("https://gateway.example", None),
            ("http://127.0.0.1:8080", None),
        ] {
            assert_eq!(sts(parse(url)).as_deref(), expected, "{url}");
        }
    }

    /// Covers: 35u.
    #[test]
    fn a_flag_allows_the_host_that_it_names_and_keeps_the_other_rules() {
        for (url, insecure, origin) in [
            ("https://sts.gateway.example:8443/", false, Ok("https://sts.gateway.example:8443")),
            ("https://sts.aliyuncs.com", false, Ok("https://sts.aliyuncs.com")),
            ("http://127.0.0.1:99", true, Ok("http://127.0.0.1:99")),
            ("http://127.0.0.1:99", false, Err(EndpointProblem::Loopback)),
            ("http://sts.gateway.example", true, Err(EndpointProblem::NotHttps)),
            ("https://100.100.100.200", true, Err(EndpointProblem::Address)),
            ("https://sts.gateway.example/path", false, Err(EndpointProblem::MoreThanAHost)),
        ] {
            let endpoint = Endpoint::of_flag(url, insecure).map(|endpoint| endpoint.origin());
            assert_eq!(endpoint, origin.map(str::to_owned), "{url}");
        }
    }

    #[test]
    fn a_region_makes_the_endpoint_of_its_network() {
        for (vpc, url) in [
            (false, "https://dataworks.cn-shanghai.aliyuncs.com"),
            (true, "https://dataworks-vpc.cn-shanghai.aliyuncs.com"),
        ] {
            let endpoint = Endpoint::of_region("cn-shanghai", vpc).unwrap();
            assert_eq!(endpoint, Endpoint::parse(url, &HostRules::default()).unwrap());
            assert_eq!(endpoint.identity(), "cn-shanghai", "which jobs the ids mean does not depend on the network");
        }
        for region in
            ["", "cn", "cn-", "-cn", "c-n", "cn--a", "CN-shanghai", "cn-sh.evil.test/", "cn_sh-a", "cn-a@b", "1n-a"]
        {
            assert_eq!(Endpoint::of_region(region, false), Err(EndpointProblem::Region), "{region}");
        }
    }

    /// Covers: 35u.
    #[test]
    fn hostile_endpoints_are_refused() {
        use EndpointProblem::{Address, Loopback, Malformed, MoreThanAHost, NotHttps};
        let not_allowed = |host: &str| EndpointProblem::NotAllowed(host.to_owned());
        let rows = [
            ("https://evilaliyuncs.com", not_allowed("evilaliyuncs.com")),
            ("https://dataworks.cn-shanghai.evilaliyuncs.com", not_allowed("dataworks.cn-shanghai.evilaliyuncs.com")),
            ("https://aliyuncs.com.evil.test", not_allowed("aliyuncs.com.evil.test")),
            ("https://bucket.oss-cn-x.aliyuncs.com", not_allowed("bucket.oss-cn-x.aliyuncs.com")),
            ("https://dataworks.aliyuncs.com", not_allowed("dataworks.aliyuncs.com")),
            ("https://a.dataworks.cn-shanghai.aliyuncs.com", not_allowed("a.dataworks.cn-shanghai.aliyuncs.com")),
            ("https://dataworks.a.cn-shanghai.aliyuncs.com", not_allowed("dataworks.a.cn-shanghai.aliyuncs.com")),
            ("https://dataworks-evil.cn-shanghai.aliyuncs.com", not_allowed("dataworks-evil.cn-shanghai.aliyuncs.com")),
            ("https://sts.cn-shanghai.aliyuncs.com", not_allowed("sts.cn-shanghai.aliyuncs.com")),
            (
                "https://xn--dataworks-abc.cn-shanghai.aliyuncs.com",
                not_allowed("xn--dataworks-abc.cn-shanghai.aliyuncs.com"),
            ),
            ("https://kubernetes.default.svc", not_allowed("kubernetes.default.svc")),
            ("https://gateway.example.evil.test", not_allowed("gateway.example.evil.test")),
            ("https://evilgateway.example", not_allowed("evilgateway.example")),
            ("https://sub.gateway.example", not_allowed("sub.gateway.example")),
            ("https://ported.example:444", not_allowed("ported.example")),
            ("http://dataworks.cn-shanghai.aliyuncs.com", NotHttps),
            ("http://gateway.example", NotHttps),
            ("dataworks.cn-shanghai.aliyuncs.com", NotHttps),
            ("ftp://dataworks.cn-shanghai.aliyuncs.com", NotHttps),
            (" https://dataworks.cn-shanghai.aliyuncs.com", NotHttps),
            ("", NotHttps),
            ("https://x@dataworks.cn-shanghai.aliyuncs.com", MoreThanAHost),
            ("https://dataworks.cn-shanghai.aliyuncs.com@evil.test", MoreThanAHost),
            ("https://dataworks.cn-shanghai.aliyuncs.com/path", MoreThanAHost),
            ("https://dataworks.cn-shanghai.aliyuncs.com//", MoreThanAHost),
            ("https://dataworks.cn-shanghai.aliyuncs.com?a=b", MoreThanAHost),
            ("https://dataworks.cn-shanghai.aliyuncs.com#f", MoreThanAHost),
            ("https://evil.test\\\\.dataworks.cn-shanghai.aliyuncs.com", MoreThanAHost),
            ("https://dataworks.cn-shanghai.aliyuncs.com:0", Malformed),
            ("https://dataworks.cn-shanghai.aliyuncs.com:99999", Malformed),
            ("https://dataworks.cn-shanghai.aliyuncs.com:+443", Malformed),
            ("https://dataworks.cn-shanghai.aliyuncs.com:", Malformed),
            ("https://dataworks.cn-shanghai.aliyuncs.com:443:443", Malformed),
            ("https://dataworks.cn-shanghai.aliyuncs.com..", Malformed),
            ("https://dataworks%2ecn-shanghai.aliyuncs.com", Malformed),
            ("https://dataworkѕ.cn-shanghai.aliyuncs.com", Malformed),
            ("https://dataworks.cn-shanghai.aliyuncs.com ", Malformed),
            ("https://data\nworks.cn-shanghai.aliyuncs.com", Malformed),
            ("https://", Malformed),
            ("https://.", Malformed),
            ("https://169.254.169.254", Address),
            ("https://100.100.100.200", Address),
            ("https://[fd00:ec2::254]", Address),
            ("https://[::ffff:127.0.0.1]", Address),
            ("https://[::]:443", Address),
            ("https://0.0.0.0", Address),
            ("https://2130706433", Address),
            ("https://0x7f000001", Address),
            ("https://0x7f.1", Address),
            ("https://0177.0.0.1", Address),
            ("https://127.1", Address),
            ("https://10.0.0.1", Address),
            ("http://127.0.0.1:8080", Loopback),
            ("http://localhost", Loopback),
            ("https://LOCALHOST.", Loopback),
            ("http://[::1]:1", Loopback),
        ];
        for (url, problem) in rows {
            let refused = Endpoint::parse(url, &rules(false, &["gateway.example", "ported.example:8443", "10.0.0.1"]));
            assert_eq!(refused, Err(problem), "{url}");
        }
    }

    /// Covers: 35u.
    #[test]
    fn an_allowed_host_is_matched_as_a_whole() {
        let rules = rules(false, &["Gateway.Example.", "ported.example:8443", "own.example.:443"]);
        for (url, host) in [
            ("https://own.example", "own.example"),
            ("https://own.example:443", "own.example"),
            ("https://gateway.example", "gateway.example"),
            ("https://GATEWAY.example:9443/", "gateway.example:9443"),
            ("https://ported.example:8443", "ported.example:8443"),
        ] {
            let endpoint = Endpoint::parse(url, &rules).unwrap();
            assert_eq!((endpoint.host(), endpoint.region(), endpoint.identity().as_str()), (host, None, host));
        }
        for url in ["https://ported.example", "https://own.example:8443"] {
            assert!(Endpoint::parse(url, &rules).is_err(), "{url}");
        }
    }

    #[test]
    fn a_host_name_has_at_most_253_characters() {
        let label = "a".repeat(63);
        for (last, problem) in [(61, None), (62, Some(EndpointProblem::Malformed))] {
            let name = format!("{label}.{label}.{label}.{}", "a".repeat(last));
            let parsed = Endpoint::parse(&format!("https://{name}"), &rules(false, &[&name]));
            assert_eq!(parsed.err(), problem, "{}", name.len());
        }
    }

    #[test]
    fn an_endpoint_prints_as_its_origin() {
        let endpoint = Endpoint::of_region("cn-shanghai", false).unwrap();
        assert_eq!(format!("{endpoint:?}"), r#"Endpoint("https://dataworks.cn-shanghai.aliyuncs.com")"#);
    }

    #[test]
    fn loopback_is_allowed_by_its_flag_alone() {
        for (url, origin) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://localhost:80/", "http://localhost"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("https://localhost:8443", "https://localhost:8443"),
        ] {
            assert_eq!(Endpoint::parse(url, &rules(true, &[])).unwrap().origin(), origin);
            assert_eq!(
                Endpoint::parse(url, &rules(false, &["localhost", "127.0.0.1"])),
                Err(EndpointProblem::Loopback)
            );
        }
        assert_eq!(Endpoint::parse("http://127.0.0.2", &rules(true, &[])), Err(EndpointProblem::Address));
        assert_eq!(
            Endpoint::parse("http://gateway.example", &rules(true, &["gateway.example"])),
            Err(EndpointProblem::NotHttps)
        );
    }

    proptest! {
        /// Covers: 35u.
        #[test]
        fn whatever_is_accepted_is_an_allowed_host(rest in "[a-zA-Z0-9.:@/?#%\\[\\]-]{0,40}", tail in prop::bool::ANY) {
            let url = format!("https://{rest}{}", if tail { ".cn-shanghai.aliyuncs.com" } else { "" });
            if let Ok(endpoint) = Endpoint::parse(&url, &HostRules::default()) {
                let uri: http::Uri = endpoint.origin().parse().unwrap();
                let name = uri.host().unwrap();
                prop_assert!(name.starts_with("dataworks") && name.ends_with(".aliyuncs.com") && name.split('.').count() == 4);
                prop_assert!(endpoint.region().is_some());
            }
        }
    }
}
