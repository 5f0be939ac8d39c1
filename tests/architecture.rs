//! What reviewers would forget: where files lie, how long they are, and which module may use what.
//!
//! A rule is a function from sources to findings. Each is first tried on a text that breaks it, then on this repository.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/table.rs"]
mod table;

use std::fs;
use std::path::Path;

use source::Source;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Beside these, names that begin with a dot. `target` is what a build leaves.
const TOP_LEVEL: [&str; 10] =
    ["CHANGELOG.md", "Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "crds", "deploy", "src", "target", "tests"];

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 60;

/// Each test binary uses its own part of the shared modules, and `expect` fails in one that happens to use all.
const MAY_ALLOW_DEAD_CODE: &str = "tests/support/mod.rs";

/// Waits of a fixed length in tests and their tools: file, how many, why. Others wait for a condition, or pause the clock.
/// The bench is free to wait: it measures over windows of time.
const WAITS: &[(&str, usize, &str)] = &[
    ("tests/api-server/src/service.rs", 1, "the latency that a test's wire gives, in virtual time"),
    ("tests/api-server/src/stream.rs", 4, "what a watch waits for, in virtual time"),
    ("tests/control-plane/src/lib.rs", 1, "between two looks at a process that starts"),
    ("tests/control-plane/tests/launcher.rs", 1, "between two looks at processes that end"),
    ("tests/demo/src/cluster.rs", 1, "between two looks at what starts"),
    ("tests/demo/src/story.rs", 1, "between two looks at what is told"),
    ("tests/gone.rs", 1, "between two looks at what the API server takes away"),
    ("tests/invalid.rs", 1, "between two tries of a schema that the API server takes up"),
    ("tests/limits.rs", 3, "between two looks at real processes, and the duty cycle of a tenth of a processor"),
    ("tests/operator.rs", 1, "between two looks at the operator's log"),
    ("tests/outages.rs", 1, "between two looks at the cluster"),
    ("tests/outages/api.rs", 1, "the length of an outage"),
    ("tests/outages/faults.rs", 3, "the lengths of a storm and a pause, and the moment of the pause"),
    ("tests/outages/process.rs", 4, "between two looks at real processes"),
    ("tests/simulator/src/server.rs", 1, "the latency that a test asked for"),
    ("tests/support/world.rs", 1, "between two looks at real processes"),
    ("tests/support/world/tenant.rs", 1, "between two looks at real processes"),
];

fn stray(names: &[String]) -> Vec<String> {
    names.iter().filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str())).cloned().collect()
}

fn long(source: &Source) -> Vec<String> {
    let lines = source.lines_before_tests();
    let file = (lines > FILE_LINES).then(|| format!("{}: {lines} lines before its tests", source.name));
    // A test that is a table is as long as its table.
    let functions =
        source.functions().into_iter().filter(|function| !function.is_test && function.lines > FUNCTION_LINES);
    file.into_iter()
        .chain(functions.map(|f| format!("{}:{}: {} has {} lines", source.name, f.line, f.name, f.lines)))
        .collect()
}

fn shortcuts(source: &Source) -> Vec<String> {
    let shared = source.name == MAY_ALLOW_DEAD_CODE;
    let outer = ["# [ allow", "# [ ignore", "todo !", "unimplemented !"].map(|pattern| (pattern, source.find(pattern)));
    let inner = ("# ! [ allow", source.find("# ! [ allow").split_off(usize::from(shared && allows_dead_code(source))));
    let conditional = ["allow", "ignore"].map(|name| {
        let tokens = source.find(&format!(", {name}")).into_iter();
        let attributes = source.find("cfg_attr");
        (name, tokens.filter(|token| attributes.iter().any(|other| other.line == token.line)).collect())
    });
    let all = outer.into_iter().chain([inner]).chain(conditional);
    all.flat_map(|(what, tokens)| tokens.into_iter().map(move |token| (what, token.line)))
        .map(|(what, line)| format!("{}:{line}: {}", source.name, what.replace(' ', "")))
        .collect()
}

fn allows_dead_code(source: &Source) -> bool {
    !source.find("# ! [ allow ( dead_code , reason").is_empty()
}

/// Waits of a fixed length, unless all tests of the file run on a paused clock.
fn waits(source: &Source) -> usize {
    let paused = source.find("# [ tokio :: test ]").is_empty() && !source.find("start_paused").is_empty();
    let virtual_time = if paused { source.find("thread :: sleep") } else { source.find("sleep (") };
    virtual_time.len()
}

fn wrong_waits(sources: &[Source]) -> Vec<String> {
    let allowed = |name: &str| WAITS.iter().find(|(file, ..)| *file == name).map_or(0, |(_, count, _)| *count);
    let wrong = |source: &Source| {
        let (has, may) = (waits(source), allowed(&source.name));
        (has != may).then(|| format!("{}: {has} waits of a fixed length, {may} are allowed", source.name))
    };
    let gone = WAITS.iter().filter(|(file, ..)| !sources.iter().any(|source| source.name == *file));
    let judged = sources.iter().filter(|source| !source.name.starts_with("tests/bench/"));
    judged.filter_map(wrong).chain(gone.map(|(file, ..)| format!("{file}: is gone"))).collect()
}

/// The sources in a folder, but not what was built.
fn sources_in(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for entry in fs::read_dir(Path::new(ROOT).join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(sources_in(&name));
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            found.push(Source::new(&name, &fs::read_to_string(entry.path()).unwrap()));
        }
    }
    found
}

fn all_sources() -> Vec<Source> {
    let sources = [sources_in("src"), sources_in("tests")].concat();
    assert!(sources.iter().any(|source| source.name == "tests/architecture.rs"), "the sources are not where they were");
    sources
}

/// The names of the root crate's dependencies, as code writes them.
fn crates() -> Vec<String> {
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let name = |line: &str| Some(line.split(['.', ' ', '=']).next()?.replace('-', "_"));
    section.lines().filter(|line| line.starts_with(char::is_alphabetic)).filter_map(name).collect()
}

fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn nothing_but_the_listed_names_lies_at_the_top() {
    let names: Vec<String> =
        fs::read_dir(ROOT).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_none(&stray(&names));
}

#[test]
fn files_and_functions_stay_short() {
    assert_none(&all_sources().iter().flat_map(long).collect::<Vec<_>>());
}

#[test]
fn no_lint_is_allowed_no_test_ignored_and_nothing_left_to_do() {
    assert_none(&all_sources().iter().flat_map(shortcuts).collect::<Vec<_>>());
}

#[test]
fn no_test_waits_a_fixed_time_without_a_reason() {
    let of_src = sources_in("src").into_iter().map(|source| source.only_tests());
    assert_none(&wrong_waits(&of_src.chain(sources_in("tests")).collect::<Vec<_>>()));
}

#[test]
fn each_module_uses_what_the_table_lets_it_use() {
    let crates = crates();
    let sources = sources_in("src");
    let modules = sources.iter().filter(|source| !["src/main.rs", "src/lib.rs"].contains(&source.name.as_str()));
    let breaches: Vec<String> = modules.flat_map(|source| table::breaches(source, &crates)).collect();
    assert_none(&[breaches, table::stale(&sources)].concat());
}

#[test]
fn the_simulators_and_the_control_plane_know_nothing_of_the_operator() {
    for name in ["api-server", "simulator", "control-plane"] {
        let manifest = fs::read_to_string(Path::new(ROOT).join("tests").join(name).join("Cargo.toml")).unwrap();
        assert!(!manifest.contains("dijob-operator"), "{name}: a shared struct would hide a shared mistake");
    }
}

mod rules {
    //! Each rule, broken once.
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("src/plan/decide.rs", text)
    }

    fn breaches(name: &str, text: &str) -> Vec<String> {
        table::breaches(&Source::new(name, text), &["kube", "tokio", "jiff", "serde"].map(str::to_owned))
    }

    #[test]
    fn a_stray_name_is_found() {
        let names = ["src", ".ci", "scripts", "build.rs"].map(str::to_owned);
        assert_eq!(stray(&names), ["scripts", "build.rs"]);
    }

    #[test]
    fn a_long_file_is_found_but_its_tests_do_not_count() {
        let lines = "//\n".repeat(FILE_LINES);
        let module = format!("#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests {{\n{lines}}}\n");
        for tests in [module, format!("#[tokio::test]\nasync fn f() {{\n{lines}}}\n"), String::new()] {
            assert_eq!(long(&source(&format!("{lines}{tests}"))), Vec::<String>::new());
            assert_eq!(long(&source(&format!("{lines}//\n{tests}"))).len(), 1, "{tests:.40}");
        }
        let early = format!("#[cfg(test)]\nuse x::y;\n{lines}");
        assert_eq!(long(&source(&early)), ["src/plan/decide.rs: 402 lines before its tests"]);
    }

    #[test]
    fn a_long_function_is_found_wherever_it_stands() {
        let body = "    //\n".repeat(FUNCTION_LINES - 2);
        let good = format!("trait T {{ fn none(&self) -> [u8; 2]; }}\nfn good() {{\n{body}}}\n");
        assert_eq!(long(&source(&good)), Vec::<String>::new());
        let bad = format!("impl X {{\n    const fn bad<T>(f: fn(T))\n    where T: A\n    {{\n{body}    }}\n}}\n");
        assert_eq!(long(&source(&bad)), ["src/plan/decide.rs:2: bad has 62 lines"]);
        assert_eq!(long(&source(&bad.replace("const fn", "#[cfg(test)] fn"))).len(), 1);
        assert_eq!(long(&source(&bad.replace("const fn", "#[test] fn"))), Vec::<String>::new());
    }

    #[test]
    fn shortcuts_are_found_and_texts_and_comments_are_not() {
        let bad = "#[allow(x)] fn a() { todo!() }\n#![allow(dead_code, reason = \"\")]\n#[ignore] fn b() { unimplemented!() }\n\
                   #[cfg_attr(test, allow(x))] fn c() {}\n#[cfg_attr(x, ignore)] fn d() {}";
        let found = ["#[allow", "#[ignore", "todo!", "unimplemented!", "#![allow", "allow", "ignore"].into_iter();
        let lines = [1, 3, 1, 3, 2, 4, 5];
        let expected: Vec<_> =
            found.zip(lines).map(|(what, line)| format!("src/plan/decide.rs:{line}: {what}")).collect();
        assert_eq!(shortcuts(&source(bad)), expected);
        let good =
            "// #[allow(x)]\n/// todo!()\n#[expect(x, reason = \"#[ignore]\")] fn a() { \"todo!()\"; b(c, allow); }";
        assert_eq!(shortcuts(&source(good)), Vec::<String>::new());
    }

    #[test]
    fn the_shared_modules_may_allow_dead_code_and_nothing_more() {
        let shared = |text| shortcuts(&Source::new(MAY_ALLOW_DEAD_CODE, text));
        assert_eq!(shared("#![allow(dead_code, reason = \"\")]"), Vec::<String>::new());
        assert_eq!(shared("#![allow(dead_code)]").len(), 1);
        assert_eq!(shared("#![allow(dead_code, reason = \"\")]\n#![allow(unused)]").len(), 1);
    }

    #[test]
    fn a_fixed_wait_is_found_unless_the_clock_is_paused() {
        let counted = [
            ("fn a() { std::thread::sleep(x); }", 1),
            ("async fn a() { tokio::time::sleep(x).await; sleep(y).await }", 2),
            ("#[tokio::test(start_paused = true)] async fn a() { sleep(x).await; }", 0),
            ("#[tokio::test(start_paused = true)] async fn a() { std::thread::sleep(x); }", 1),
            ("#[tokio::test(start_paused = true)] async fn a() {} #[tokio::test] async fn b() { sleep(x).await; }", 1),
        ];
        assert_eq!(counted.map(|(text, _)| waits(&source(text))), counted.map(|(_, count)| count));
        let findings = wrong_waits(&[source("fn a() { sleep(x); }")]);
        assert_eq!(findings[0], "src/plan/decide.rs: 1 waits of a fixed length, 0 are allowed");
        assert_eq!(findings.len(), 1 + WAITS.len(), "a reason without its file is found too");
    }

    #[test]
    fn the_table_is_broken_by_imports_groups_paths_macros_and_ways_around() {
        let bad = [
            "use kube::Api;",
            "use {jiff::Timestamp, kube as k};",
            "use crate::{api::Job, controller::{self, pass}};",
            "fn f() { crate::controller::pass(); }",
            "use super::super::controller::pass;",
            "fn f() { tokio::spawn(x) }",
            "macro_rules! m { () => { tokio::spawn(x) } }",
            "use std::time::{Duration, SystemTime};",
            "fn f() -> <T as kube::Resource>::D {}",
            "use crate::dataworks::Client;",
        ];
        for text in bad {
            assert!(!breaches("src/plan/decide.rs", text).is_empty(), "not found: {text}");
        }
        assert_eq!(
            breaches("src/plan/decide.rs", "\nuse kube::Api;"),
            ["src/plan/decide.rs:2: plan may not use kube::Api"]
        );
    }

    #[test]
    fn the_table_lets_be_what_it_lets_be() {
        let good = [
            "use jiff::Timestamp; use std::time::Duration; use serde::{Deserialize, Serialize};",
            "use super::observed::Observed; use self::x::Y; use crate::plan::status; use crate::api::*;",
            "use crate::dataworks::error::ErrorKind; use crate::quota::Lane;",
            "/// [`kube::Api`]\nfn f() { \"tokio::spawn\"; } // crate::controller",
            "#[cfg(test)]\nmod tests { use tokio::time; }",
            "#[cfg(test)] use tokio::time; fn f() -> impl Fn() + use<'_> {}",
        ];
        assert_none(&good.iter().flat_map(|text| breaches("src/plan/decide.rs", text)).collect::<Vec<_>>());
        let after_tests = "#[cfg(test)] mod tests { fn f() { {} } }\nuse tokio::time;";
        assert_eq!(breaches("src/plan/decide.rs", after_tests).len(), 1);
    }

    #[test]
    fn the_longest_row_is_a_files_own() {
        assert_eq!(breaches("src/lease/mod.rs", "use tokio::time; use self::state::State;"), Vec::<String>::new());
        assert_eq!(breaches("src/lease/state.rs", "use tokio::time;").len(), 1);
        assert_eq!(breaches("src/lease/state.rs", "use super::Elector;").len(), 1);
        assert_eq!(breaches("src/unknown.rs", ""), ["src/unknown.rs: no row of the table is its own"]);
        assert_eq!(table::stale(&[]).len(), table::TABLE.len());
    }
}
