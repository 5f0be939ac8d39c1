//! Sets of fields, as `managedFields` has them.
//!
//! A step of a path is kept as it is written there: `f:NAME`, `k:{"KEY":VALUE}` or `v:VALUE`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of paths, as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set(pub(crate) BTreeMap<String, Node>);

/// What lies at a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// The path that ends here is in the set.
    pub(crate) member: bool,
    pub(crate) below: Set,
}

impl Set {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.values().all(|node| !node.member && node.below.is_empty())
    }

    pub(crate) fn insert(&mut self, path: &[String]) {
        if let [first, rest @ ..] = path {
            let node = self.0.entry(first.clone()).or_default();
            if rest.is_empty() { node.member = true } else { node.below.insert(rest) }
        }
    }

    pub(crate) fn of(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.iter().map(|step| format!("f:{step}")).collect::<Vec<_>>());
        }
        set
    }

    pub(crate) fn union(&mut self, other: &Self) {
        for (step, node) in &other.0 {
            let mine = self.0.entry(step.clone()).or_default();
            mine.member |= node.member;
            mine.below.union(&node.below);
        }
    }

    /// Without these paths; what lies below them stays.
    #[must_use]
    pub(crate) fn difference(mut self, other: &Self) -> Self {
        self.subtract(other, false);
        self
    }

    /// Without these paths and all that lies below them.
    #[must_use]
    pub(crate) fn without(mut self, other: &Self) -> Self {
        self.subtract(other, true);
        self
    }

    fn subtract(&mut self, other: &Self, deep: bool) {
        for (step, theirs) in &other.0 {
            let Some(mine) = self.0.get_mut(step) else { continue };
            if theirs.member {
                mine.member = false;
                if deep {
                    mine.below = Self::default();
                }
            }
            mine.below.subtract(&theirs.below, deep);
            if !mine.member && mine.below.0.is_empty() {
                self.0.remove(step);
            }
        }
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (step, mine) in &self.0 {
            let Some(theirs) = other.0.get(step) else { continue };
            let node = Node { member: mine.member && theirs.member, below: mine.below.intersection(&theirs.below) };
            if node.member || !node.below.0.is_empty() {
                both.0.insert(step.clone(), node);
            }
        }
        both
    }

    /// Every path, in order, as messages write it: `.spec.list[key="x"].field`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.walk("", &mut paths);
        paths
    }

    fn walk(&self, prefix: &str, paths: &mut Vec<String>) {
        for (step, node) in &self.0 {
            let path = format!("{prefix}{}", spoken(step));
            if node.member {
                paths.push(path.clone());
            }
            node.below.walk(&path, paths);
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let below = |node: &Node| {
            let mut json = match node.below.to_json() {
                Value::Object(json) => json,
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
            };
            if node.member && !json.is_empty() {
                json.insert(".".to_owned(), Value::Object(Map::new()));
            }
            Value::Object(json)
        };
        Value::Object(self.0.iter().map(|(step, node)| (step.clone(), below(node))).collect())
    }

    pub(crate) fn from_json(json: &Value) -> Self {
        let mut set = Self::default();
        for (step, below) in json.as_object().into_iter().flatten().filter(|(step, _)| *step != ".") {
            let alone = below.as_object().is_none_or(Map::is_empty);
            let node = Node { member: alone || below.get(".").is_some(), below: Self::from_json(below) };
            set.0.insert(step.clone(), node);
        }
        set
    }
}

/// A step as messages write it.
pub(crate) fn spoken(step: &str) -> String {
    match step.split_once(':') {
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        Some((_, name)) => format!(".{name}"),
        None => String::new(),
    }
}
