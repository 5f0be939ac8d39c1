//! The pages for users say what the code does: README.md and those beside the CRDs, against enums, schemas and flags.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use dijob_operator::api::condition::{Condition, ConditionStatus, ConditionType, Reason, reason_of};
use dijob_operator::api::{self, DataIntegrationJob, DataWorksAccount};
use dijob_operator::config::Config;
use dijob_operator::telemetry::{AccountName, Answer, Budget, Metrics, Operation};
use serde_json::Value;

const README: &str = "README.md";
const JOB: &str = "crds/dataintegrationjob.md";
const ACCOUNT: &str = "crds/dataworksaccount.md";
const PAGES: [&str; 3] = [README, JOB, ACCOUNT];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// A page in two: its text without fenced blocks, and the blocks with their languages.
fn parts(page: &str) -> (String, Vec<(String, String)>) {
    let (mut text, mut blocks, mut open) = (String::new(), Vec::new(), None::<(usize, String, String)>);
    for line in read(page).lines() {
        let bare = line.trim_start();
        match (&mut open, bare.strip_prefix("```")) {
            (None, Some(language)) => open = Some((line.len() - bare.len(), language.to_owned(), String::new())),
            (None, None) => text.extend([line, "\n"]),
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(_, language, code)| (language, code))),
            (Some((indent, _, code)), None) => code.extend([line.get(*indent..).unwrap_or_default(), "\n"]),
        }
    }
    assert!(open.is_none(), "{page}: a block is not closed");
    (text, blocks)
}

/// The rows of the one table under a heading, without its head.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (text, _) = parts(page);
    let under = text.lines().skip_while(|line| *line != format!("## {heading}")).skip(1);
    let lines: Vec<&str> =
        under.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with('|')).collect();
    let cells =
        |line: &&str| -> Vec<String> { line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect() };
    let rows: Vec<_> = lines.iter().map(cells).collect();
    assert!(rows.len() > 2 && rows[1].iter().all(|cell| cell == "---"), "{page}: no table under {heading}");
    for row in &rows {
        assert_eq!(row.len(), rows[0].len(), "{page}: {row:?}");
    }
    rows.into_iter().skip(2).collect()
}

/// What stands in backticks.
fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The one thing that the first cell of each row names.
fn names(rows: &[Vec<String>]) -> Vec<String> {
    let name = |row: &Vec<String>| {
        let names = code(&row[0]);
        assert_eq!(names.len(), 1, "{row:?}");
        names[0].clone()
    };
    rows.iter().map(name).collect()
}

#[test]
fn every_reason_has_one_troubleshooting_row_in_order() {
    let rows = table(README, "Troubleshooting");
    let all: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(names(&rows), all);
    for row in rows {
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}

/// All condition types in order. The match does not compile without a new one.
fn condition_types() -> Vec<&'static str> {
    let next = |type_| match type_ {
        ConditionType::Ready => Some(ConditionType::Reconciling),
        ConditionType::Reconciling => Some(ConditionType::Stalled),
        ConditionType::Stalled => Some(ConditionType::Started),
        ConditionType::Started => Some(ConditionType::Observed),
        ConditionType::Observed => Some(ConditionType::Throttled),
        ConditionType::Throttled => None,
    };
    std::iter::successors(Some(ConditionType::Ready), |type_| next(*type_)).map(ConditionType::as_str).collect()
}

#[test]
fn every_condition_has_one_row_in_order() {
    assert_eq!(names(&table(README, "Reading the status")), condition_types());
}

#[test]
fn every_condition_is_shown_as_the_operator_writes_it() {
    let mut shown = BTreeSet::new();
    for (_, block) in parts(JOB).1 {
        let Ok(value) = serde_saphyr::from_str::<Value>(&block) else { continue };
        let Some(conditions) = value.pointer("/status/conditions") else { continue };
        let conditions: Vec<Condition> = serde_json::from_value(conditions.clone()).unwrap();
        let types: Vec<_> = conditions.iter().map(|c| c.type_.as_str()).collect();
        let in_order = condition_types().into_iter().filter(|known| types.contains(known));
        assert!(in_order.eq(types.iter().copied()), "{types:?}");
        let with = |type_| conditions.iter().find(|c: &&Condition| c.type_ == type_);
        let [reconciling, stalled] = ["Reconciling", "Stalled"].map(|type_| with(type_).is_some());
        let ready = with("Ready").unwrap();
        assert_eq!(ready.status == ConditionStatus::False, reconciling != stalled, "{types:?}");
        for c in &conditions {
            let word = c.type_.as_str();
            assert!(reason_of(&c.reason).is_some(), "{}", c.reason);
            if ["Reconciling", "Stalled", "Throttled"].contains(&word) {
                assert_eq!(c.status, ConditionStatus::True, "{word} is there only while True");
            }
            if ["Reconciling", "Stalled"].contains(&word) {
                assert_eq!((&c.reason, &c.message), (&ready.reason, &ready.message));
            }
            shown.insert(word.to_owned());
        }
    }
    let all: BTreeSet<_> = condition_types().into_iter().map(str::to_owned).collect();
    assert_eq!(shown, all);
}

/// The schema of a kind, as the API server gets it.
fn schema(kind: &str) -> Value {
    let crd = api::crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    serde_json::to_value(&crd.spec.versions[0]).unwrap()["schema"]["openAPIV3Schema"].clone()
}

/// The fields below a schema: path, schema, and whether it is required. In a status, settings are as in spec.
fn fields(of: &Value, at: &str, found: &mut BTreeMap<String, (Value, bool)>) {
    for (name, field) in of["properties"].as_object().into_iter().flatten() {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let required = of["required"].as_array().is_some_and(|all| all.contains(&Value::from(name.as_str())));
        let as_in_spec = name == "realtimeStartSettings" && !at.is_empty();
        if !as_in_spec {
            fields(field, &path, found);
            fields(&field["items"], &format!("{path}[]"), found);
        }
        assert!(found.insert(path, (field.clone(), required)).is_none());
    }
}

fn fields_of(kind: &str, part: &str) -> BTreeMap<String, (Value, bool)> {
    let mut found = BTreeMap::new();
    fields(&schema(kind)["properties"][part], "", &mut found);
    found
}

#[test]
fn every_field_has_one_row_and_every_row_a_field() {
    let tables = [
        ("DataIntegrationJob", "spec", JOB, "Spec"),
        ("DataIntegrationJob", "status", JOB, "Status"),
        ("DataWorksAccount", "spec", ACCOUNT, "Spec"),
        ("DataWorksAccount", "status", ACCOUNT, "Status"),
    ];
    for (kind, part, page, heading) in tables {
        let mut rows: Vec<String> = table(page, heading).iter().flat_map(|row| code(&row[0])).collect();
        rows.sort();
        let all: Vec<String> = fields_of(kind, part).into_keys().collect();
        assert_eq!(rows, all, "{page}, {heading}");
    }
}

#[test]
fn settings_in_a_status_are_those_of_spec() {
    let keys = |value: &Value| value["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let spec = &fields_of("DataIntegrationJob", "spec")["realtimeStartSettings"].0;
    let status = fields_of("DataIntegrationJob", "status");
    let inside: Vec<_> = status.iter().filter(|(path, _)| path.ends_with("realtimeStartSettings")).collect();
    assert!(!inside.is_empty());
    for (path, (field, _)) in inside {
        assert_eq!(keys(field), keys(spec), "{path}");
    }
}

#[test]
fn defaults_limits_and_choices_are_those_of_the_schema() {
    for (kind, page) in [("DataIntegrationJob", JOB), ("DataWorksAccount", ACCOUNT)] {
        let fields = fields_of(kind, "spec");
        for row in table(page, "Spec") {
            let (field, required) = &fields[&code(&row[0])[0]];
            let default = match (&field["default"], required) {
                (Value::Null, true) => "required".to_owned(),
                (Value::Null, false) => "–".to_owned(),
                (Value::String(text), _) if !text.is_empty() => format!("`{text}`"),
                (other, _) => format!("`{other}`"),
            };
            assert_eq!(row[1], default, "{row:?}");
            if let (Some(least), Some(most)) = (field["minimum"].as_f64(), field["maximum"].as_f64()) {
                assert!(row[2].contains(&format!("{least} to {most}")), "{row:?}: {least} to {most}");
            }
            for choice in field["enum"].as_array().into_iter().flatten() {
                assert!(code(&row[2]).iter().any(|word| choice == word), "{row:?}: {choice}");
            }
        }
    }
}

#[test]
fn columns_and_field_selectors_are_named() {
    for (kind, page) in [("DataIntegrationJob", JOB), ("DataWorksAccount", ACCOUNT)] {
        let crd = api::crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
        let version = &crd.spec.versions[0];
        let words: BTreeSet<String> = code(&parts(page).0).into_iter().collect();
        for column in version.additional_printer_columns.iter().flatten() {
            assert!(words.contains(&column.name), "{page}: column {}", column.name);
        }
        for field in version.selectable_fields.iter().flatten() {
            assert!(words.contains(field.json_path.trim_start_matches('.')), "{page}: selector {}", field.json_path);
        }
        for name in crd.spec.names.short_names.iter().flatten().chain(crd.spec.names.categories.iter().flatten()) {
            assert!(words.contains(name), "{page}: {name}");
        }
    }
}

/// Fails on a field that the schema does not have, and on a required one that is missing.
fn only_known(value: &Value, schema: &Value, at: &str) {
    for item in value.as_array().into_iter().flatten() {
        only_known(item, &schema["items"], at);
    }
    let Some(object) = value.as_object() else { return };
    for (name, inner) in object {
        let known = schema["properties"].get(name).unwrap_or_else(|| panic!("{at}.{name} is no field"));
        only_known(inner, known, &format!("{at}.{name}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(object.contains_key(name.as_str().unwrap()), "{at} lacks {name}");
    }
}

#[test]
fn yaml_parses_and_has_only_fields_that_exist() {
    let mut kinds = BTreeMap::<String, usize>::new();
    for page in PAGES {
        for (_, block) in parts(page).1.into_iter().filter(|(language, _)| language == "yaml") {
            for value in serde_saphyr::from_multiple::<Value>(&block).unwrap_or_else(|e| panic!("{page}: {e}\n{block}"))
            {
                let of_the_page = if page == ACCOUNT { "DataWorksAccount" } else { "DataIntegrationJob" };
                let kind = value["kind"].as_str().unwrap_or(of_the_page).to_owned();
                if value.get("kind").is_none() {
                    // A part: a status, or patches of a kustomization.
                    let keys: Vec<_> = value.as_object().unwrap().keys().collect();
                    assert!(keys == ["status"] || keys == ["patches"], "{page}\n{block}");
                    only_known(&value["status"], &schema(&kind)["properties"]["status"], &kind);
                } else if kind == "DataIntegrationJob" {
                    only_known(&value["spec"], &schema(&kind)["properties"]["spec"], &kind);
                    assert_eq!(value["apiVersion"], "dijob.dev/v1alpha1");
                    serde_json::from_value::<DataIntegrationJob>(value).unwrap();
                } else if kind == "DataWorksAccount" {
                    only_known(&value["spec"], &schema(&kind)["properties"]["spec"], &kind);
                    assert_eq!(value["apiVersion"], "dijob.dev/v1alpha1");
                    serde_json::from_value::<DataWorksAccount>(value).unwrap();
                } else {
                    assert!(
                        ["Secret", "Kustomization"].contains(&kind.as_str()),
                        "{page}: {kind} is checked by nothing"
                    );
                }
                *kinds.entry(kind).or_default() += 1;
            }
        }
    }
    for kind in ["DataIntegrationJob", "DataWorksAccount", "Secret"] {
        assert!(kinds.get(kind).is_some_and(|n| *n > 1), "an example in README and one on the page: {kinds:?}");
    }
}

#[test]
fn annotations_are_those_that_are_read() {
    let known: BTreeSet<&str> = [api::RERUN_ANNOTATION, api::RERUN_FORCE_ANNOTATION].into();
    for page in PAGES {
        let text = read(page);
        let group = format!("{}/", api::GROUP);
        let part_of_a_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let tails = text.split(&group).skip(1).map(|tail| tail.split(|c| !part_of_a_word(c)).next().unwrap());
        let named: BTreeSet<String> = tails.filter(|t| *t != "v1alpha1").map(|t| format!("{group}{t}")).collect();
        let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
        assert!(named.is_subset(&known), "{page}: {named:?}");
        assert!(page == ACCOUNT || named == known, "{page}: {named:?}");
    }
    assert!(names(&table(JOB, "Annotations")).iter().map(String::as_str).collect::<BTreeSet<_>>() == known);
}

#[test]
fn flags_exist_with_these_defaults() {
    let command = Config::command();
    let flag = |name: &str| command.get_arguments().find(|arg| arg.get_long() == Some(name));
    for page in PAGES {
        for word in code(&parts(page).0) {
            if let Some(name) = word.strip_prefix("--") {
                assert!(flag(name).is_some() || name == "help", "{page}: --{name}");
            }
            if word.starts_with("DIJOB_") {
                assert!(command.get_arguments().any(|arg| arg.get_env().is_some_and(|e| e == word.as_str())), "{word}");
            }
        }
    }
    let rows = table(README, "Flags");
    for (name, row) in names(&rows).iter().zip(&rows) {
        let flag = flag(name.trim_start_matches("--")).unwrap_or_else(|| panic!("{name}"));
        let default = flag.get_default_values().first().map(|value| format!("`{}`", value.to_str().unwrap()));
        assert_eq!(row[1], default.unwrap_or_else(|| "–".to_owned()), "{name}");
    }
}

#[test]
fn metrics_are_those_that_are_served() {
    let metrics = Metrics::new();
    let prod = AccountName { namespace: "team", name: "prod" };
    metrics.account_call(prod, Operation::StartDiJob, Answer::Ok);
    let budget = Budget { reads_per_second: 1.0, writes_per_second: 1.0, left_today: Some(1) };
    metrics.account_budget(prod, budget);
    let text = metrics.encode().unwrap();
    let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, labels) = line.split_once('{').map_or((line.split(' ').next().unwrap(), ""), |(n, l)| (n, l));
        let labels: Vec<_> = labels.split('"').step_by(2).filter_map(|part| part.strip_suffix('=')).collect();
        let labels = labels.concat();
        // A histogram is three names, and one to its readers.
        let histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|part| name.strip_suffix(part));
        let name = histogram.unwrap_or(name);
        let labels = labels.trim_start_matches("le,");
        if labels.is_empty() { name.to_owned() } else { format!("{name}{{{labels}}}") }
    });
    let served: BTreeSet<String> = series.collect();
    let rows = names(&table(README, "Events and metrics"));
    assert_eq!(rows.iter().cloned().collect::<BTreeSet<_>>(), served);
    assert_eq!(rows.len(), served.len(), "each once");
}

#[test]
fn paths_given_to_kubectl_exist() {
    let status: Vec<String> = fields_of("DataIntegrationJob", "status").into_keys().collect();
    let text = read(README);
    let paths: Vec<&str> = text.split("{.status.").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
    assert!(paths.len() > 1);
    for path in paths {
        let plain = path.replace("[-1:]", "[]").replace("[0]", "");
        assert!(status.contains(&plain), "{path}");
    }
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    for page in PAGES {
        let (text, _) = parts(page);
        for target in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(page).parent().unwrap();
            let file = if file.is_empty() { root().join(page) } else { root().join(folder).join(file) };
            assert!(file.is_file(), "{page}: {target}");
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&file).unwrap();
                let headings = text.lines().filter_map(|line| line.strip_prefix("## ")).map(anchor);
                assert!(headings.into_iter().any(|known| known == heading), "{page}: {target}");
            }
        }
    }
}
