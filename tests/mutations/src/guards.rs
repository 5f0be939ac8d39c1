//! The list of guards, and what it must keep to fit the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::Failure;

/// One guard: how to take it out, and the test that notices.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Unique.
    pub name: String,
    /// What goes wrong without it.
    pub why: String,
    /// The file that it stands in.
    pub file: String,
    /// Occurs once in that file.
    pub text: String,
    /// What stands in its place when the guard is out.
    pub replacement: String,
    /// The binary of the test, `lib` for tests beside the code, then its path in that binary: `decide::starts::name`.
    /// A binary of another crate of the workspace is named after it: `schedules/regressions::name`.
    pub test: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    guard: Vec<Guard>,
}

impl Guard {
    /// The test's binary, and its path in there.
    pub fn test(&self) -> (&str, &str) {
        self.test.split_once("::").unwrap_or((&self.test, ""))
    }

    /// Changes with what is taken out, what takes its place, and which test is asked. FNV-1a of 32 bits.
    pub fn fingerprint(&self) -> String {
        let parts = [&self.file, &self.text, &self.replacement, &self.test];
        let bytes = parts.into_iter().flat_map(|part| part.bytes().chain([0]));
        let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        format!("{hash:08x}")
    }

    /// The files that may hold the test.
    fn test_files(&self) -> Vec<String> {
        let (target, path) = self.test();
        let (folder, binary) = target
            .split_once('/')
            .map_or(("tests".to_owned(), target), |(krate, b)| (format!("tests/{krate}/tests"), b));
        let modules = path.rsplit_once("::").map(|(modules, _)| modules.replace("::", "/"));
        match (binary, modules) {
            ("lib", modules) => {
                let modules = modules.unwrap_or_default();
                let beside = modules.strip_suffix("/tests").unwrap_or(&modules);
                vec![format!("src/{beside}.rs"), format!("src/{beside}/mod.rs")]
            }
            (_, Some(modules)) => vec![format!("{folder}/{binary}/{modules}.rs")],
            (_, None) => vec![format!("{folder}/{binary}.rs")],
        }
    }
}

/// All guards, in their order.
pub fn read(root: &Path) -> Result<Vec<Guard>, Failure> {
    let list: List = basic_toml::from_str(&fs::read_to_string(root.join("tests/mutations/guards.toml"))?)?;
    let findings = findings(&list.guard, |file| fs::read_to_string(root.join(file)).ok());
    if findings.is_empty() { Ok(list.guard) } else { Err(findings.join("\n").into()) }
}

/// The guards by the binary of their test, largest group first: the few that need real processes come last.
pub fn by_binary(guards: Vec<Guard>) -> Vec<(String, Vec<Guard>)> {
    let mut binaries = BTreeMap::<String, Vec<Guard>>::new();
    for guard in guards {
        binaries.entry(guard.test().0.to_owned()).or_default().push(guard);
    }
    let mut groups: Vec<_> = binaries.into_iter().collect();
    groups.sort_by_key(|(_, guards)| std::cmp::Reverse(guards.len()));
    groups
}

/// What does not fit. `read` gives the text of a file, if there is one.
fn findings(guards: &[Guard], read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for guard in guards {
        let text = read(&guard.file);
        let times = text.as_ref().map_or(0, |text| text.matches(&guard.text).count());
        let name = guard.test.rsplit("::").next().unwrap_or_default();
        let sources: Vec<String> = guard.test_files().iter().filter_map(|file| read(file)).collect();
        let rules = [
            (names.insert(guard.name.as_str()), "another guard has this name".to_owned()),
            (!guard.name.is_empty() && !guard.why.is_empty(), "it has no name, or no reason".to_owned()),
            (text.is_some(), format!("there is no file {}", guard.file)),
            (text.is_none() || times == 1, format!("its text occurs {times} times in {}", guard.file)),
            (guard.text != guard.replacement, "its replacement changes nothing".to_owned()),
            (
                sources.iter().any(|source| has_test(source, name)),
                format!("there is no test {name} in {}", guard.test_files().join(" or ")),
            ),
        ];
        let broken = rules.into_iter().filter(|(holds, _)| !holds);
        found.extend(broken.map(|(_, what)| format!("{}: {what}", guard.name)));
    }
    found
}

/// Whether there is a function of this name with a `test` attribute.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_it = |line: &str| line.trim_start_matches("async ").starts_with(&format!("fn {name}("));
    let is_test = |line: &&&str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    lines.iter().enumerate().filter(|(_, line)| is_it(line)).any(|(at, _)| {
        let above = lines.iter().take(at).rev().take_while(|line| line.starts_with('#') || line.starts_with("///"));
        above.filter(is_test).count() == 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guard_fits_the_sources() {
        let guards = read(crate::root());
        assert!(guards.as_ref().is_ok_and(|guards| guards.len() > 50), "{:?}", guards.map(|guards| guards.len()));
    }

    fn guard() -> Guard {
        Guard {
            name: "fence".to_owned(),
            why: "two leaders".to_owned(),
            file: "src/a.rs".to_owned(),
            text: "if holds".to_owned(),
            replacement: "if true".to_owned(),
            test: "decide::laws::the_fence_holds".to_owned(),
        }
    }

    fn file(name: &str) -> Option<String> {
        let text = match name {
            "src/a.rs" => "if holds {}\nif other {}\nif other {}",
            "src/b/mod.rs" | "tests/crash.rs" | "tests/far/tests/seeds.rs" => {
                "#[tokio::test]\nasync fn it_holds() {}\nfn helper() {}"
            }
            "tests/decide/laws.rs" => "/// Why.\n#[test]\n/// And how.\nfn the_fence_holds() {}",
            _ => return None,
        };
        Some(text.to_owned())
    }

    fn found(change: impl FnOnce(&mut Guard)) -> Vec<String> {
        let mut changed = guard();
        change(&mut changed);
        findings(&[changed], file)
    }

    #[test]
    fn each_way_not_to_fit_is_found() {
        assert_eq!(found(|_| {}), Vec::<String>::new());
        assert_eq!(found(|g| g.why = String::new()), ["fence: it has no name, or no reason"]);
        assert_eq!(found(|g| g.text = "if other".to_owned()), ["fence: its text occurs 2 times in src/a.rs"]);
        assert_eq!(found(|g| g.text = "if none".to_owned()), ["fence: its text occurs 0 times in src/a.rs"]);
        assert_eq!(found(|g| g.file = "src/c.rs".to_owned()), ["fence: there is no file src/c.rs"]);
        assert_eq!(found(|g| g.replacement = g.text.clone()), ["fence: its replacement changes nothing"]);
        assert_eq!(findings(&[guard(), guard()], file), ["fence: another guard has this name"]);
        for test in [
            "decide::laws::gone",
            "decide::the_fence_holds",
            "lib::b::tests::helper",
            "crash::it",
            "crash",
            "far/crash::it_holds",
        ] {
            assert_eq!(found(|g| test.clone_into(&mut g.test)).len(), 1, "{test}");
        }
        for test in ["lib::b::tests::it_holds", "crash::it_holds", "far/seeds::it_holds"] {
            assert_eq!(found(|g| test.clone_into(&mut g.test)), Vec::<String>::new(), "{test}");
        }
    }

    #[test]
    fn guards_whose_tests_share_a_binary_are_tried_together() {
        let other = Guard { test: "crash::it_holds".to_owned(), ..guard() };
        let groups = by_binary(vec![other.clone(), guard(), guard()]);
        let sizes: Vec<_> = groups.iter().map(|(binary, guards)| (binary.as_str(), guards.len())).collect();
        assert_eq!(sizes, [("decide", 2), ("crash", 1)]);
    }

    #[test]
    fn a_fingerprint_is_that_of_the_entry_but_for_its_words() {
        let same = Guard { why: "another".to_owned(), ..guard() };
        assert_eq!(guard().fingerprint(), same.fingerprint());
        let edits: [fn(&mut Guard); 4] =
            [|g| g.file.push('x'), |g| g.text.push('x'), |g| g.replacement.push('x'), |g| g.test.push('x')];
        let mut all = BTreeSet::from([guard().fingerprint()]);
        for edit in edits {
            let mut changed = guard();
            edit(&mut changed);
            all.insert(changed.fingerprint());
        }
        assert_eq!(all.len(), 5, "{all:?}");
    }
}
