//! The exchanges of an operator, named so that a name means the same exchange in each run of a story.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees:** a name is a class and a number within it, from 1, counted from the act of the story on. Watches and the
//! Lease are classes of their own, so that their number changes no other name.

use std::fmt;

use crate::support::proxy::Exchange;

/// One exchange of a story.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// What is asked for.
    pub class: String,
    /// Which of its class, from 1.
    pub nth: usize,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{}", self.class, self.nth)
    }
}

impl Name {
    /// Whether it is one with the cloud.
    pub fn is_of_cloud(&self) -> bool {
        self.class.ends_with("DIJob")
    }

    /// Whether an operator has as many of them as time passes: how many there are says nothing of a story.
    pub fn is_apart(&self) -> bool {
        self.class.starts_with("WATCH") || self.class.ends_with("lease")
    }

    /// Whether `exchange`, the last of `all`, is the one, when those up to number `before` do not count.
    pub fn is(&self, exchange: &Exchange, all: &[Exchange], before: usize) -> bool {
        exchange.number > before
            && class(exchange) == self.class
            && all.iter().skip(before).filter(|other| class(other) == self.class).count() == self.nth
    }
}

/// The names of all exchanges but the first `before`.
pub fn names(exchanges: &[Exchange], before: usize) -> Vec<Name> {
    let classes: Vec<String> = exchanges.iter().skip(before).map(class).collect();
    let nth = |at: usize| classes.iter().take(at + 1).filter(|other| **other == classes[at]).count();
    (0..classes.len()).map(|at| Name { class: classes[at].clone(), nth: nth(at) }).collect()
}

/// What an exchange asks for.
pub fn class(exchange: &Exchange) -> String {
    let (path, query) = exchange.path.split_once('?').unwrap_or((&exchange.path, ""));
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    if let Some(action) = parameter("Action") {
        return action.to_owned();
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let after_namespace = parts.iter().position(|part| *part == "namespaces").map_or(0, |at| at + 2);
    let kinds = ["dataintegrationjobs", "dataworksaccounts", "secrets", "events", "leases"];
    let at = parts.iter().skip(after_namespace).position(|part| kinds.contains(part)).map(|at| at + after_namespace);
    let Some(at) = at else { return format!("{} {path}", exchange.method) };
    let named = parts.get(at + 1).is_some();
    let kind = match parts[at] {
        "dataintegrationjobs" if parts.get(at + 2) == Some(&"status") && parameter("dryRun").is_some() => {
            "status (dry run)"
        }
        "dataintegrationjobs" if parts.get(at + 2) == Some(&"status") => "status",
        "dataintegrationjobs" if named => "job",
        "dataintegrationjobs" => "jobs",
        "dataworksaccounts" if parts.get(at + 2) == Some(&"status") && parameter("dryRun").is_some() => {
            "account status (dry run)"
        }
        "dataworksaccounts" if parts.get(at + 2) == Some(&"status") => "account status",
        "dataworksaccounts" if named => "account",
        "dataworksaccounts" => "accounts",
        "secrets" => "secret",
        "events" => "event",
        other => other.trim_end_matches('s'),
    };
    let verb = match (exchange.method.as_str(), named) {
        ("GET", false) if parameter("watch").is_some() => "WATCH",
        ("GET", false) if parameter("limit") == Some("1") => "PROBE",
        ("GET", false) => "LIST",
        (method, _) => method,
    };
    format!("{verb} {kind}")
}
