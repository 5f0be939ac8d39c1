//! Merge patches (RFC 7386) and JSON patches (RFC 6902).

use serde_json::{Map, Value};

/// Merges a patch into a value; null takes away.
pub(crate) fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        value.clone_from(patch);
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(map) = value else { return };
    for (key, patch) in patch {
        if patch.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), patch);
        }
    }
}

/// Does all operations, or says which one cannot be done.
pub(crate) fn operate(mut value: Value, operations: &[Value]) -> Result<Value, String> {
    for operation in operations {
        let text = |key: &str| operation.get(key).and_then(Value::as_str).unwrap_or_default();
        let (op, path) = (text("op"), text("path"));
        let given = || operation.get("value").cloned().unwrap_or_default();
        match op {
            "test" if value.pointer(path).unwrap_or(&Value::Null) == &given() => {}
            "test" => return Err(format!("testing value {path} failed: test failed")),
            "add" => add(&mut value, path, given())?,
            "remove" => drop(remove(&mut value, path)?),
            "replace" if path.is_empty() => value = given(),
            "replace" => match value.pointer_mut(path) {
                Some(at) => *at = given(),
                None => return Err(missing("replace", path)),
            },
            "copy" => {
                let copied = value.pointer(text("from")).cloned().ok_or_else(|| missing("copy", text("from")))?;
                add(&mut value, path, copied)?;
            }
            "move" => {
                let moved = remove(&mut value, text("from"))?;
                add(&mut value, path, moved)?;
            }
            other => return Err(format!("Unexpected kind: {other}")),
        }
    }
    Ok(value)
}

fn missing(operation: &str, path: &str) -> String {
    format!("{operation} operation does not apply: doc is missing path: {path}: missing value")
}

fn split(path: &str) -> Option<(&str, String)> {
    let (parent, key) = path.rsplit_once('/')?;
    Some((parent, key.replace("~1", "/").replace("~0", "~")))
}

fn add(value: &mut Value, path: &str, new: Value) -> Result<(), String> {
    let Some((parent, key)) = split(path) else {
        *value = new;
        return Ok(());
    };
    match value.pointer_mut(parent) {
        Some(Value::Object(map)) => drop(map.insert(key, new)),
        Some(Value::Array(list)) if key == "-" => list.push(new),
        Some(Value::Array(list)) => match key.parse::<usize>() {
            Ok(index) if index <= list.len() => list.insert(index, new),
            _ => return Err(missing("add", path)),
        },
        _ => return Err(missing("add", path)),
    }
    Ok(())
}

fn remove(value: &mut Value, path: &str) -> Result<Value, String> {
    let (parent, key) = split(path).ok_or_else(|| missing("remove", path))?;
    let removed = match value.pointer_mut(parent) {
        Some(Value::Object(map)) => map.remove(&key),
        Some(Value::Array(list)) => {
            key.parse::<usize>().ok().filter(|index| *index < list.len()).map(|index| list.remove(index))
        }
        _ => None,
    };
    removed.ok_or_else(|| missing("remove", path))
}
