//! Endpoints, against the parser of the HTTP client: both must see the same host.

use dijob_operator::dataworks::{Endpoint, HostRules};
use reqwest::Url;

use super::harness::{Verdict, demand, fuzz};

const ALLOWED: [&str; 3] = ["gateway.example", "ported.example:8443", "10.0.0.1"];

/// `xx-region`: two letters or more, then groups of letters and digits.
fn is_region(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lower = |c: char| c.is_ascii_lowercase();
    groups.len() > 1
        && groups[0].len() > 1
        && groups[0].chars().all(lower)
        && groups[1..].iter().all(|g| !g.is_empty() && g.chars().all(|c| lower(c) || c.is_ascii_digit()))
}

fn is_dataworks(name: &str) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    matches!(labels.as_slice(), [service, region, "aliyuncs", "com"]
        if ["dataworks", "dataworks-vpc", "dataworks-public"].contains(service) && is_region(region))
}

fn judge(bytes: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(bytes);
    for insecure in [false, true] {
        let allowed_hosts = ALLOWED.map(str::to_owned).to_vec();
        let rules = HostRules { allow_insecure_endpoints: insecure, allowed_hosts };
        let Ok(endpoint) = Endpoint::parse(&text, &rules) else { continue };
        let origin = endpoint.origin();
        demand(Endpoint::parse(&origin, &rules).as_ref() == Ok(&endpoint), || format!("{origin} reads otherwise"))?;
        let (seen, sent) = (Url::parse(&text), Url::parse(&origin));
        let (Ok(seen), Ok(sent)) = (seen, sent) else {
            return Err(format!("the client cannot read {text:?} or {origin}"));
        };
        let host = |url: &Url| url.host_str().unwrap_or_default().trim_end_matches('.').to_owned();
        demand(host(&seen) == host(&sent) && seen.port() == sent.port(), || format!("{text:?} is {seen}, not {sent}"))?;
        demand(sent.path() == "/" && sent.query().is_none() && sent.username().is_empty(), || sent.to_string())?;
        let name = host(&sent);
        let loopback = ["localhost", "127.0.0.1", "[::1]"].contains(&name.as_str());
        let with_port = sent.port().map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
        let by_name = name != "10.0.0.1" && (ALLOWED.contains(&name.as_str()) || ALLOWED.contains(&with_port.as_str()));
        demand((loopback && insecure) || is_dataworks(&name) || by_name, || format!("{text:?} leads to {name}"))?;
        demand(loopback || sent.scheme() == "https", || format!("{text:?} goes in the clear"))?;
        demand(endpoint.region().is_some() == is_dataworks(&name), || format!("region of {name}"))?;
    }
    let region = Endpoint::of_region(&text, false);
    demand(region.is_ok() == (is_region(&text) && text.len() <= 63), || format!("{text:?} as a region: {region:?}"))
}

/// Covers: 35u.
#[test]
fn any_endpoint_that_is_taken_is_an_allowed_host_to_every_parser() {
    fuzz("hosts", judge);
}
