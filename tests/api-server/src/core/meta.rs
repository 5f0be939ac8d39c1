//! Small steps on the metadata of an object.

use serde_json::{Map, Value};

/// The text at a path; empty if there is none.
pub(crate) fn take_text(object: &Value, path: &[&str]) -> String {
    text(object, path).to_owned()
}

/// The text at a path; empty if there is none.
pub(crate) fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |at, step| at.get(step))
}

/// Sets the value at a path; makes the maps on the way.
pub(crate) fn set(object: &mut Value, path: &[&str], value: impl Into<Value>) {
    let Some((first, rest)) = path.split_first() else {
        *object = value.into();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    if let Value::Object(map) = object {
        set(map.entry(*first).or_insert(Value::Null), rest, value);
    }
}

/// Takes away the value at a path.
pub(crate) fn unset(object: &mut Value, path: &[&str]) -> Option<Value> {
    match path {
        [] => None,
        [last] => object.as_object_mut()?.remove(*last),
        [first, rest @ ..] => unset(object.get_mut(first)?, rest),
    }
}

/// Makes the value at a path that of another object, absent if it is absent there.
pub(crate) fn copy(object: &mut Value, from: &Value, path: &[&str]) {
    match at(from, path) {
        Some(value) => set(object, path, value.clone()),
        None => drop(unset(object, path)),
    }
}

/// The object without managedFields.
pub(crate) fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    unset(&mut object, &["metadata", "managedFields"]);
    object
}

pub(crate) fn has_finalizers(object: &Value) -> bool {
    at(object, &["metadata", "finalizers"]).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

pub(crate) fn is_deleting(object: &Value) -> bool {
    !text(object, &["metadata", "deletionTimestamp"]).is_empty()
}

pub(crate) fn generation(object: &Value) -> i64 {
    at(object, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or_default()
}

/// Takes away what is empty in metadata, as the real one does when it reads an object.
pub(crate) fn drop_empty(object: &mut Value) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.retain(|_, value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            Value::Bool(_) | Value::Number(_) => true,
        });
    }
}

/// A DNS subdomain, which names have to be.
pub(crate) fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
