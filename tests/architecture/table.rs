//! Which module may use what.

use super::source::{Named, Source};

/// What a module and its children may use, unless a longer row is theirs. Inside a row all is free.
#[derive(Debug)]
pub struct Row {
    module: &'static str,
    /// Modules of ours, with their children.
    ours: &'static [&'static str],
    /// Crates of others.
    others: &'static [&'static str],
    /// What is forbidden though the rest of its crate or module is not.
    never: &'static [&'static str],
}

/// IO and clocks.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// `main` and `lib` wire all together and have no row.
pub const TABLE: &[Row] = &[
    Row {
        module: "api",
        ours: &[],
        others: &["jiff", "k8s_openapi", "kube", "schemars", "serde", "serde_json"],
        never: &["kube::Api", "kube::Client", "kube::Config", "kube::api", "kube::client", "kube::runtime"],
    },
    Row { module: "quota", ours: &[], others: &["jiff"], never: IMPURE },
    Row { module: "lease::state", ours: &[], others: &["jiff"], never: IMPURE },
    Row {
        module: "dataworks::model",
        ours: &["dataworks::sign", "dataworks::error"],
        others: &["jiff", "secrecy", "serde", "serde_json"],
        never: IMPURE,
    },
    Row {
        module: "dataworks::sign",
        ours: &["dataworks::model", "dataworks::error"],
        others: &["base64", "hmac", "jiff", "secrecy", "serde", "sha1", "sha2"],
        never: IMPURE,
    },
    Row {
        module: "dataworks::error",
        ours: &["dataworks::model", "dataworks::sign"],
        others: &["jiff", "serde"],
        never: IMPURE,
    },
    Row {
        module: "dataworks",
        ours: &["clock"],
        others: &[
            "bytes",
            "http",
            "http_body",
            "jiff",
            "reqwest",
            "rustls",
            "secrecy",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tower",
            "tracing",
        ],
        never: &["std::env", "std::time::Instant", "std::time::SystemTime"],
    },
    Row {
        module: "plan",
        ours: &["api", "quota", "dataworks::model", "dataworks::error"],
        others: &["jiff", "serde"],
        never: IMPURE,
    },
    Row {
        module: "lease",
        ours: &["clock"],
        others: &["k8s_openapi", "kube", "tokio", "tokio_util", "tracing"],
        never: &["std::env", "std::time::Instant", "std::time::SystemTime"],
    },
    Row {
        module: "controller",
        ours: &["health", "api", "clock", "dataworks", "lease", "plan", "quota", "telemetry"],
        others: &[
            "futures",
            "jiff",
            "k8s_openapi",
            "kube",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ],
        never: &["crate::dataworks::sign", "crate::dataworks::transport", "std::env", "std::net"],
    },
    Row { module: "config", ours: &[], others: &["clap", "jiff"], never: &[] },
    Row { module: "clock", ours: &[], others: &["fastrand", "jiff", "tokio"], never: &["std::env"] },
    Row { module: "telemetry", ours: &[], others: &["prometheus_client", "tracing", "tracing_subscriber"], never: &[] },
    Row { module: "health", ours: &["clock"], others: &[], never: &["std::env"] },
    Row { module: "server", ours: &["health"], others: &["axum", "tokio"], never: &["std::env"] },
];

/// The findings in a file of `src`. `crates` are the names under which code knows its dependencies.
pub fn breaches(source: &Source, crates: &[String]) -> Vec<String> {
    let module = module_of(&source.name);
    let Some(row) = row_of(&module) else { return vec![format!("{}: no row of the table is its own", source.name)] };
    let paths = source.without_tests().paths();
    let breach = |named: &Named| {
        let path = absolute(&named.path, &module);
        let forbidden = row.never.iter().any(|never| is_under(&path, never)) || !allows(row, &path, crates);
        forbidden.then(|| format!("{}:{}: {} may not use {path}", source.name, named.line, row.module))
    };
    paths.iter().filter_map(breach).collect()
}

/// The rows that no file belongs to.
pub fn stale(sources: &[Source]) -> Vec<String> {
    let has_file = |row: &&Row| sources.iter().any(|source| is_under(&module_of(&source.name), row.module));
    TABLE
        .iter()
        .filter(|row| !has_file(row))
        .map(|row| format!("{}: no file is under this row of the table", row.module))
        .collect()
}

fn allows(row: &Row, path: &str, crates: &[String]) -> bool {
    if let Some(ours) = path.strip_prefix("crate::") {
        let same_row = row_of(ours).is_some_and(|of| of.module == row.module);
        // The module that a longer row was cut out of hands its parts on, and may name them.
        let parent = row_of(ours).is_some_and(|of| is_under(of.module, row.module));
        return same_row || parent || row.ours.iter().any(|allowed| is_under(ours, allowed));
    }
    let root = path.split("::").next().unwrap_or_default();
    !crates.iter().any(|name| name == root) || row.others.contains(&root)
}

fn row_of(module: &str) -> Option<&'static Row> {
    TABLE.iter().filter(|row| is_under(module, row.module)).max_by_key(|row| row.module.len())
}

fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `src/plan/decide.rs` is `plan::decide`, `src/plan/mod.rs` is `plan`.
fn module_of(name: &str) -> String {
    let name = name.trim_start_matches("src/").trim_end_matches(".rs").replace('/', "::");
    name.trim_end_matches("::mod").to_owned()
}

/// The path with `self` and `super` replaced.
fn absolute(path: &[String], module: &str) -> String {
    let mut here: Vec<&str> = module.split("::").collect();
    let relative = path.iter().take_while(|name| *name == "self" || *name == "super").count();
    if relative == 0 {
        return path.join("::");
    }
    here.truncate(here.len() - path[..relative].iter().filter(|name| *name == "super").count());
    let rest = path[relative..].iter().map(String::as_str);
    ["crate"].into_iter().chain(here).chain(rest).collect::<Vec<_>>().join("::")
}
