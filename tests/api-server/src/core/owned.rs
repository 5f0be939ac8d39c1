//! Who set which field: `metadata.managedFields`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::fields::Set;
use super::schema::Schema;
use super::typed::{compare, fields, merge, remove, with_named};
use crate::answer::Refusal;

/// One manager, as it is told apart from others. Ordered as they are listed, but for their times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) applies: bool,
    pub(crate) manager: String,
    pub(crate) subresource: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Share {
    set: Set,
    time: Option<String>,
}

/// Who owns what.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Owned(BTreeMap<Owner, Share>);

/// What a write is under.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) schema: &'a Schema,
    /// Fields that this endpoint does not write.
    pub(crate) ignored: &'a Set,
    pub(crate) api_version: &'a str,
    /// Seconds, as text.
    pub(crate) now: &'a str,
}

impl Owned {
    /// The same owners and fields, whatever the times.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|((a, x), (b, y))| a == b && x.set == y.set)
    }

    pub(crate) fn to_json(&self, api_version: &str) -> Value {
        let mut entries: Vec<(&Owner, &Share)> = self.0.iter().collect();
        entries.sort_by_key(|(owner, share)| (!owner.applies, share.time.clone(), owner.manager.clone()));
        let entry = |(owner, share): (&Owner, &Share)| {
            let mut entry = Map::new();
            entry.insert("manager".into(), owner.manager.clone().into());
            entry.insert("operation".into(), if owner.applies { "Apply" } else { "Update" }.into());
            entry.insert("apiVersion".into(), api_version.into());
            entry.extend(share.time.clone().map(|time| ("time".to_owned(), time.into())));
            entry.insert("fieldsType".into(), "FieldsV1".into());
            entry.insert("fieldsV1".into(), share.set.to_json());
            if !owner.subresource.is_empty() {
                entry.insert("subresource".into(), owner.subresource.clone().into());
            }
            Value::Object(entry)
        };
        entries.into_iter().map(entry).collect()
    }

    /// `None`: cannot be read.
    pub(crate) fn from_json(json: &Value) -> Option<Self> {
        let mut owned = Self::default();
        for entry in json.as_array()? {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let by = Owner {
                applies: text("operation") == "Apply",
                manager: text("manager"),
                subresource: text("subresource"),
            };
            let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
            owned.0.insert(by, Share { set: Set::from_json(entry.get("fieldsV1")?), time });
        }
        Some(owned)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// After a write that is no apply: what it changed is its manager's.
    pub(crate) fn update(&mut self, old: &Value, new: &Value, manager: &str, subresource: &str, rules: Rules<'_>) {
        let owner = Owner { applies: false, manager: manager.to_owned(), subresource: subresource.to_owned() };
        let mut difference = compare(old, new, rules.schema);
        for set in [&mut difference.added, &mut difference.modified, &mut difference.removed] {
            *set = std::mem::take(set).without(rules.ignored);
        }
        let mut mine = std::mem::take(&mut difference.added);
        mine.union(&difference.modified);
        // The manager's own earlier share counts as another's here: it loses what was removed, and gets the rest anew.
        self.0.retain(|_, share| {
            share.set = std::mem::take(&mut share.set).difference(&mine).difference(&difference.removed);
            !share.set.is_empty()
        });
        let mine = mine.difference(&STRIPPED);
        if mine.is_empty() {
            return;
        }
        let share = self.0.entry(owner).or_insert(Share { set: Set::default(), time: None });
        share.set.union(&mine);
        share.time = Some(rules.now.to_owned());
    }

    /// Applies a configuration; gives back the new object.
    ///
    /// # Errors
    /// Fields of others would change, and `force` is not set.
    pub(crate) fn apply(
        &mut self,
        live: &Value,
        config: &Value,
        manager: &str,
        subresource: &str,
        force: bool,
        rules: Rules<'_>,
    ) -> Result<Value, Refusal> {
        let owner = Owner { applies: true, manager: manager.to_owned(), subresource: subresource.to_owned() };
        let merged = merge(Some(live), Some(config), rules.schema).unwrap_or_default();
        let set = fields(config, rules.schema).without(rules.ignored);
        let last = self.0.insert(owner.clone(), Share { set: set.clone(), time: None });
        let new = match &last {
            Some(last) => self.pruned(merged, &last.set, rules.schema),
            None => merged,
        };
        let mut difference = compare(live, &new, rules.schema);
        for set in [&mut difference.added, &mut difference.modified, &mut difference.removed] {
            *set = std::mem::take(set).without(rules.ignored);
        }
        let mut changed = std::mem::take(&mut difference.added);
        changed.union(&difference.modified);
        let others = self.0.iter().filter(|(other, _)| **other != owner);
        let conflicts: Vec<(Owner, Option<String>, Set)> = others
            .map(|(other, share)| (other.clone(), share.time.clone(), share.set.intersection(&changed)))
            .filter(|(_, _, set)| !set.is_empty())
            .collect();
        if !force && !conflicts.is_empty() {
            return Err(conflict(&conflicts, rules.api_version));
        }
        self.0.retain(|other, share| {
            if *other != owner {
                share.set = std::mem::take(&mut share.set).difference(&changed).difference(&difference.removed);
            }
            !share.set.is_empty()
        });
        let time = if new == *live { last.and_then(|last| last.time) } else { Some(rules.now.to_owned()) };
        let set = set.difference(&STRIPPED);
        if set.is_empty() {
            self.0.remove(&owner);
        } else {
            self.0.insert(owner, Share { set, time });
        }
        Ok(new)
    }

    /// What everybody owns.
    fn all(&self) -> Set {
        let mut all = Set::default();
        self.0.values().for_each(|share| all.union(&share.set));
        all
    }

    /// Without what its manager applied last time, applies no more, and nobody else owns.
    fn pruned(&self, merged: Value, last: &Set, schema: &Schema) -> Value {
        let managed = self.all();
        if last.clone().difference(&managed).is_empty() {
            return merged;
        }
        let named = |set: &Set| with_named(set, schema);
        let all = named(&fields(&merged, schema));
        let pruned = remove(&merged, &named(last), schema);
        let mut kept = named(&fields(&pruned, schema));
        kept.union(&named(&managed));
        let pruned = remove(&merged, &all.clone().difference(&kept), schema);
        let gone = all.difference(&named(&fields(&pruned, schema)));
        remove(&merged, &gone.intersection(&named(last)), schema)
    }
}

/// What never stands in managedFields.
static STRIPPED: LazyLock<Set> = LazyLock::new(|| {
    Set::of(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

fn conflict(conflicts: &[(Owner, Option<String>, Set)], api_version: &str) -> Refusal {
    let mut named: Vec<(String, Vec<String>)> = conflicts
        .iter()
        .map(|(owner, time, set)| {
            let mut name = format!("{:?}", owner.manager);
            if !owner.subresource.is_empty() {
                name = format!("{name} with subresource {:?}", owner.subresource);
            }
            if !owner.applies {
                name = format!("{name} using {api_version}");
                if let Some(time) = time {
                    name = format!("{name} at {time}");
                }
            }
            (name, set.paths())
        })
        .collect();
    named.sort();
    let causes: Vec<Value> = named
        .iter()
        .flat_map(|(name, paths)| paths.iter().map(move |path| (name, path)))
        .map(|(name, path)| {
            json!({ "reason": "FieldManagerConflict", "message": format!("conflict with {name}"), "field": path })
        })
        .collect();
    let message = match named.as_slice() {
        [(name, paths)] if paths.len() == 1 => {
            format!("Apply failed with 1 conflict: conflict with {name}: {}", paths.join(""))
        }
        _ => {
            let mut lines = Vec::new();
            for (name, paths) in &named {
                lines.push(format!("conflicts with {name}:"));
                lines.extend(paths.iter().map(|path| format!("- {path}")));
            }
            format!("Apply failed with {} conflicts: {}", causes.len(), lines.join("\n"))
        }
    };
    Refusal::new(409, "Conflict", message).with(json!({ "causes": causes }))
}
