//! Values under a schema, as structured merge has them: sets of fields, differences, merging, removing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{Node, Set, spoken};
use super::schema::{Merge, Schema, Shape};

/// What differs between two values.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    pub(crate) added: Set,
    pub(crate) removed: Set,
    pub(crate) modified: Set,
}

/// How a value is walked.
enum Walk<'a> {
    /// As one.
    Leaf,
    Map(&'a Schema),
    List(&'a Schema, &'a Merge),
}

static ANY: std::sync::LazyLock<Schema> = std::sync::LazyLock::new(Schema::default);

fn walk<'a>(schema: &'a Schema, value: Option<&Value>) -> Walk<'a> {
    match &schema.shape {
        Shape::Map(fields) if !fields.atomic => Walk::Map(schema),
        Shape::List(items) if items.merge != Merge::Atomic => Walk::List(&items.of, &items.merge),
        Shape::Any if value.is_some_and(Value::is_object) => Walk::Map(schema),
        Shape::Any | Shape::Scalar | Shape::Map(_) | Shape::List(_) => Walk::Leaf,
    }
}

/// The schema of a key, and whether the schema names it.
fn child<'a>(schema: &'a Schema, key: &str) -> (&'a Schema, bool) {
    match &schema.shape {
        Shape::Map(fields) => match fields.named.get(key) {
            Some(named) => (named, true),
            None => (fields.others.as_deref().unwrap_or(&ANY), false),
        },
        Shape::Any | Shape::Scalar | Shape::List(_) => (&ANY, false),
    }
}

fn step_of_field(name: &str) -> String {
    format!("f:{name}")
}

/// How a list item is named in a path.
fn step_of_item(merge: &Merge, item: &Value) -> String {
    match merge {
        Merge::Map(keys) => {
            let named: Map<String, Value> =
                keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone()))).collect();
            format!("k:{}", Value::Object(named))
        }
        Merge::Set | Merge::Atomic => format!("v:{item}"),
    }
}

fn map_of(value: Option<&Value>) -> Cow<'_, Map<String, Value>> {
    value.and_then(Value::as_object).map_or_else(|| Cow::Owned(Map::new()), Cow::Borrowed)
}

fn list_of(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The fields that a value sets.
pub(crate) fn fields(value: &Value, schema: &Schema) -> Set {
    let mut set = Set::default();
    collect(value, schema, &mut Vec::new(), &mut set);
    set
}

fn collect(value: &Value, schema: &Schema, path: &mut Vec<String>, set: &mut Set) {
    match walk(schema, Some(value)) {
        Walk::Leaf => set.insert(path),
        Walk::Map(schema) => {
            for (key, value) in map_of(Some(value)).iter() {
                let (below, named) = child(schema, key);
                path.push(step_of_field(key));
                collect(value, below, path, set);
                if !named || value.is_null() || value.as_object().is_some_and(Map::is_empty) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        Walk::List(of, merge) => {
            for item in list_of(Some(value)) {
                path.push(step_of_item(merge, item));
                collect(item, of, path, set);
                set.insert(path);
                path.pop();
            }
        }
    }
}

/// What differs.
pub(crate) fn compare(old: &Value, new: &Value, schema: &Schema) -> Difference {
    let mut difference = Difference::default();
    differ(Some(old), Some(new), schema, &mut Vec::new(), &mut difference);
    difference
}

fn differ(old: Option<&Value>, new: Option<&Value>, schema: &Schema, path: &mut Vec<String>, out: &mut Difference) {
    if old == new {
        return;
    }
    match walk(schema, new.or(old)) {
        Walk::Map(schema) if !(map_of(old).is_empty() && map_of(new).is_empty()) => {
            let (before, after) = (map_of(old), map_of(new));
            for key in before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))) {
                path.push(step_of_field(key));
                differ(before.get(key), after.get(key), child(schema, key).0, path, out);
                path.pop();
            }
        }
        Walk::List(of, merge) if !(list_of(old).is_empty() && list_of(new).is_empty()) => {
            let index = |list: &'_ [Value]| -> BTreeMap<String, Value> {
                list.iter().map(|item| (step_of_item(merge, item), item.clone())).collect()
            };
            let (before, after) = (index(list_of(old)), index(list_of(new)));
            for step in before.keys().chain(after.keys().filter(|step| !before.contains_key(*step))) {
                path.push(step.clone());
                differ(before.get(step), after.get(step), of, path, out);
                path.pop();
            }
        }
        Walk::Leaf | Walk::Map(_) | Walk::List(..) => {
            if old.is_some() && new.is_some() {
                out.modified.insert(path);
            }
        }
    }
    match (old, new) {
        (None, Some(_)) => out.added.insert(path),
        (Some(_), None) => out.removed.insert(path),
        _ => {}
    }
}

/// `new` over `old`. `None`: nothing is left.
pub(crate) fn merge(old: Option<&Value>, new: Option<&Value>, schema: &Schema) -> Option<Value> {
    let (Some(before), Some(after)) = (old, new) else { return new.or(old).cloned() };
    match walk(schema, new) {
        Walk::Map(schema) if !(map_of(old).is_empty() && map_of(new).is_empty()) => {
            let (before, after) = (map_of(Some(before)), map_of(Some(after)));
            let mut merged = Map::new();
            for key in before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))) {
                if let Some(value) = merge(before.get(key), after.get(key), child(schema, key).0) {
                    merged.insert(key.clone(), value);
                }
            }
            (!merged.is_empty()).then_some(Value::Object(merged))
        }
        Walk::List(of, how) if !(list_of(old).is_empty() && list_of(new).is_empty()) => {
            let merged = merge_lists(list_of(old), list_of(new), of, how);
            (!merged.is_empty()).then_some(Value::Array(merged))
        }
        Walk::Leaf | Walk::Map(_) | Walk::List(..) => new.cloned(),
    }
}

/// The order of `new` wins; what only `old` has stays where it was among its neighbours.
fn merge_lists(old: &[Value], new: &[Value], of: &Schema, how: &Merge) -> Vec<Value> {
    let name = |item: &Value| step_of_item(how, item);
    let (left, right): (Vec<String>, Vec<String>) = (old.iter().map(name).collect(), new.iter().map(name).collect());
    let item = |names: &[String], items: &[Value], step: &String| {
        names.iter().position(|name| name == step).and_then(|at| items.get(at)).cloned()
    };
    let mut shared = right.iter().filter(|step| left.contains(step));
    let mut next = shared.next();
    let mut merged = Vec::new();
    let mut taken: Vec<&String> = Vec::new();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some(mine), Some(theirs)) = (left.get(l), right.get(r)) {
            if mine == theirs {
                taken.push(mine);
                merged.extend(merge(old.get(l), new.get(r), of));
                (l, r) = (l + 1, r + 1);
                next = shared.next();
                continue;
            }
            if right.contains(mine) && next.is_some_and(|next| next != mine) {
                l += 1;
                continue;
            }
        }
        if let Some(mine) = left.get(l) {
            if !right.contains(mine) {
                merged.extend(old.get(l).cloned());
                l += 1;
                continue;
            }
            if taken.contains(&mine) {
                l += 1;
            }
        }
        if let Some(theirs) = right.get(r) {
            taken.push(theirs);
            merged.extend(merge(item(&left, old, theirs).as_ref(), new.get(r), of));
            r += 1;
            if next == Some(theirs) {
                next = shared.next();
            }
        }
    }
    merged
}

/// A value without these paths; what is emptied by that is null.
pub(crate) fn remove(value: &Value, paths: &Set, schema: &Schema) -> Value {
    let below = |step: &str| paths.0.get(step);
    match walk(schema, Some(value)) {
        Walk::Leaf => value.clone(),
        Walk::Map(schema) => {
            let mut left = Map::new();
            for (key, value) in map_of(Some(value)).iter() {
                let value = match below(&step_of_field(key)) {
                    Some(node) if node.member => continue,
                    Some(node) if !node.below.is_empty() => remove(value, &node.below, child(schema, key).0),
                    _ => value.clone(),
                };
                left.insert(key.clone(), value);
            }
            if left.is_empty() { Value::Null } else { Value::Object(left) }
        }
        Walk::List(of, merge) => {
            let mut left = Vec::new();
            for item in list_of(Some(value)) {
                left.push(match below(&step_of_item(merge, item)) {
                    Some(node) if node.member => continue,
                    Some(node) if !node.below.is_empty() => remove(item, &node.below, of),
                    _ => item.clone(),
                });
            }
            if left.is_empty() { Value::Null } else { Value::Array(left) }
        }
    }
}

/// The same set, with each field that a schema names and that has something below it a member.
pub(crate) fn with_named(set: &Set, schema: &Schema) -> Set {
    let mut all = Set::default();
    for (step, node) in &set.0 {
        let (below, named) = match (step.strip_prefix("f:"), &schema.shape) {
            (None, Shape::List(items)) => (items.of.as_ref(), false),
            (Some(name), _) => child(schema, name),
            (None, _) => (&*ANY, false),
        };
        let named = named && !node.below.0.is_empty();
        let node = Node { member: node.member || named, below: with_named(&node.below, below) };
        all.0.insert(step.clone(), node);
    }
    all
}

/// The first thing for which a configuration cannot be applied, as messages write it: a field that the schema does not have,
/// or two items of one key.
pub(crate) fn problem(value: &Value, schema: &Schema, path: &str) -> Option<String> {
    match (&schema.shape, value) {
        (Shape::Map(fields), Value::Object(map)) => map.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match fields.named.get(key).or(fields.others.as_ref()) {
                Some(schema) => problem(value, schema, &path),
                None => Some(format!("{path}: field not declared in schema")),
            }
        }),
        (Shape::List(items), Value::Array(list)) => list.iter().enumerate().find_map(|(index, item)| {
            if items.merge == Merge::Atomic {
                return problem(item, &items.of, &format!("{path}[{index}]"));
            }
            let step = step_of_item(&items.merge, item);
            let key = spoken(&step);
            let twice = list.iter().take(index).any(|other| step_of_item(&items.merge, other) == step);
            let twice = twice.then(|| format!("{path}: duplicate entries for key {key}"));
            twice.or_else(|| problem(item, &items.of, &format!("{path}{key}")))
        }),
        _ => None,
    }
}
