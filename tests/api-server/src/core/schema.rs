//! Structural schemas: defaults, pruning, validation.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

/// What a value may be, and how two of its kind are merged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    pub(crate) shape: Shape,
    default: Option<Value>,
    nullable: bool,
    type_: String,
    words: Vec<Value>,
    lengths: (Option<u64>, Option<u64>),
    bounds: (Option<f64>, Option<f64>),
    date: bool,
}

/// The parts that merging looks at.
#[derive(Clone, Debug, Default)]
pub(crate) enum Shape {
    /// Told by the value itself: a map of anything, an atomic list, a scalar.
    #[default]
    Any,
    /// One value.
    Scalar,
    /// A map.
    Map(Fields),
    /// A list.
    List(Items),
}

/// A map.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    pub(crate) atomic: bool,
    pub(crate) named: BTreeMap<String, Arc<Schema>>,
    /// What all other keys hold; `None`: there are no others.
    pub(crate) others: Option<Arc<Schema>>,
    required: Vec<String>,
    preserve: bool,
}

/// A list.
#[derive(Clone, Debug)]
pub(crate) struct Items {
    pub(crate) merge: Merge,
    pub(crate) of: Arc<Schema>,
}

/// How two lists are merged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Merge {
    /// Not at all.
    Atomic,
    /// As sets.
    Set,
    /// By these keys.
    Map(Vec<String>),
}

/// What is wrong with a value.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) reason: &'static str,
    pub(crate) field: String,
    pub(crate) message: String,
}

impl Schema {
    /// Reads an `OpenAPI` v3 schema.
    pub(crate) fn parse(json: &Value) -> Arc<Self> {
        let type_ = json.get("type").and_then(Value::as_str).unwrap_or_default();
        let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default();
        let number = |keys: [&str; 3]| keys.iter().find_map(|key| json.get(key).and_then(Value::as_u64));
        let preserve = json.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        let shape = match type_ {
            "object" => Shape::Map(Fields {
                atomic: text("x-kubernetes-map-type") == "atomic",
                named: json
                    .get("properties")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                    .map(|(name, schema)| (name.clone(), Self::parse(schema)))
                    .collect(),
                others: match json.get("additionalProperties") {
                    Some(schema @ Value::Object(_)) => Some(Self::parse(schema)),
                    _ => preserve.then(Arc::default),
                },
                required: strings(json.get("required")),
                preserve,
            }),
            "array" => Shape::List(Items {
                merge: match text("x-kubernetes-list-type") {
                    "map" => Merge::Map(strings(json.get("x-kubernetes-list-map-keys"))),
                    "set" => Merge::Set,
                    _ => Merge::Atomic,
                },
                of: json.get("items").map(Self::parse).unwrap_or_default(),
            }),
            "" => Shape::Any,
            _ => Shape::Scalar,
        };
        Arc::new(Self {
            shape,
            default: json.get("default").cloned(),
            nullable: json.get("nullable") == Some(&Value::Bool(true)),
            type_: type_.to_owned(),
            words: json.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            lengths: (
                number(["minLength", "minItems", "minProperties"]),
                number(["maxLength", "maxItems", "maxProperties"]),
            ),
            bounds: (json.get("minimum").and_then(Value::as_f64), json.get("maximum").and_then(Value::as_f64)),
            date: text("format") == "date-time",
        })
    }

    /// Fills in what is absent and has a default.
    pub(crate) fn fill(&self, value: &mut Value) {
        match (&self.shape, value) {
            (Shape::Map(fields), Value::Object(map)) => {
                for (name, schema) in &fields.named {
                    if map
                        .get(name)
                        .is_some_and(|value| value.is_null() && !schema.nullable && schema.default.is_some())
                    {
                        map.remove(name);
                    }
                    if let (false, Some(default)) = (map.contains_key(name), &schema.default) {
                        map.insert(name.clone(), default.clone());
                    }
                    if let Some(value) = map.get_mut(name) {
                        schema.fill(value);
                    }
                }
                if let Some(others) = &fields.others {
                    map.iter_mut()
                        .filter(|(name, _)| !fields.named.contains_key(*name))
                        .for_each(|(_, v)| others.fill(v));
                }
            }
            (Shape::List(items), Value::Array(list)) => list.iter_mut().for_each(|value| items.of.fill(value)),
            _ => {}
        }
    }

    /// Takes away what the schema does not name; gives back the paths of it.
    pub(crate) fn prune(&self, value: &mut Value, path: &str, gone: &mut Vec<String>) {
        match (&self.shape, value) {
            (Shape::Map(fields), Value::Object(map)) => {
                map.retain(|name, value| {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    match fields.named.get(name).or(fields.others.as_ref()) {
                        Some(schema) => schema.prune(value, &path, gone),
                        None if fields.preserve => {}
                        None => {
                            gone.push(path);
                            return false;
                        }
                    }
                    true
                });
            }
            (Shape::List(items), Value::Array(list)) => {
                for (index, value) in list.iter_mut().enumerate() {
                    items.of.prune(value, &format!("{path}[{index}]"), gone);
                }
            }
            _ => {}
        }
    }

    /// What is wrong with a value.
    pub(crate) fn faults(&self, value: &Value, path: &str, faults: &mut Vec<Fault>) {
        if value.is_null() && self.nullable {
            return;
        }
        if !self.is_of_type(value) {
            let message = format!(
                "Invalid value: \"{}\": {path} in body must be of type {}: \"{}\"",
                named_type(value),
                self.type_,
                named_type(value)
            );
            faults.push(Fault { reason: "FieldValueTypeInvalid", field: path.to_owned(), message });
            return;
        }
        self.own_faults(value, path, faults);
        match (&self.shape, value) {
            (Shape::Map(fields), Value::Object(map)) => {
                for name in fields.required.iter().filter(|name| !map.contains_key(*name)) {
                    let field = format!("{path}.{name}").trim_start_matches('.').to_owned();
                    faults.push(Fault { reason: "FieldValueRequired", field, message: "Required value".to_owned() });
                }
                for (name, value) in map {
                    if let Some(schema) = fields.named.get(name).or(fields.others.as_ref()) {
                        schema.faults(value, format!("{path}.{name}").trim_start_matches('.'), faults);
                    }
                }
            }
            (Shape::List(items), Value::Array(list)) => {
                for (index, value) in list.iter().enumerate() {
                    items.of.faults(value, &format!("{path}[{index}]"), faults);
                }
                if let Merge::Map(keys) = &items.merge {
                    repeated(list, keys, path, faults);
                }
            }
            _ => {}
        }
    }

    fn is_of_type(&self, value: &Value) -> bool {
        match self.type_.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            _ => true,
        }
    }

    fn own_faults(&self, value: &Value, path: &str, faults: &mut Vec<Fault>) {
        let mut fault = |reason, message: String| faults.push(Fault { reason, field: path.to_owned(), message });
        if !self.words.is_empty() && !self.words.contains(value) {
            let words: Vec<String> = self.words.iter().map(Value::to_string).collect();
            fault(
                "FieldValueNotSupported",
                format!("Unsupported value: {value}: supported values: {}", words.join(", ")),
            );
        }
        let (length, unit) = match value {
            Value::String(text) => (Some(text.chars().count()), "chars"),
            Value::Array(list) => (Some(list.len()), "items"),
            Value::Object(map) => (Some(map.len()), "properties"),
            Value::Null | Value::Bool(_) | Value::Number(_) => (None, ""),
        };
        if let Some(length) = length.and_then(|length| u64::try_from(length).ok()) {
            if let Some(max) = self.lengths.1.filter(|max| length > *max) {
                let reason = if unit == "chars" { "FieldValueTooLong" } else { "FieldValueTooMany" };
                let unit = if unit == "chars" { "bytes" } else { unit };
                let what =
                    if unit == "bytes" { "Too long: may not be more than" } else { "Too many: must have at most" };
                fault(reason, format!("{what} {max} {unit}"));
            }
            if let Some(min) = self.lengths.0.filter(|min| length < *min) {
                fault(
                    "FieldValueInvalid",
                    format!("Invalid value: {value}: {path} in body should be at least {min} {unit} long"),
                );
            }
        }
        if let Some(number) = value.as_f64() {
            if let Some(min) = self.bounds.0.filter(|min| number < *min) {
                fault(
                    "FieldValueInvalid",
                    format!("Invalid value: {value}: {path} in body should be greater than or equal to {min}"),
                );
            }
            if let Some(max) = self.bounds.1.filter(|max| number > *max) {
                fault(
                    "FieldValueInvalid",
                    format!("Invalid value: {value}: {path} in body should be less than or equal to {max}"),
                );
            }
        }
        if self.date && value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_err()) {
            fault(
                "FieldValueInvalid",
                format!("Invalid value: {value}: {path} in body must be of type date-time: {value}"),
            );
        }
    }
}

fn repeated(list: &[Value], keys: &[String], path: &str, faults: &mut Vec<Fault>) {
    let key = |item: &Value| keys.iter().map(|key| item.get(key).cloned()).collect::<Vec<_>>();
    for (index, item) in list.iter().enumerate() {
        if list.iter().take(index).any(|other| key(other) == key(item)) {
            let named: Map<String, Value> =
                keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone()))).collect();
            let field = format!("{path}[{index}]");
            let message = format!("Duplicate value: {}", json!(named));
            faults.push(Fault { reason: "FieldValueDuplicate", field, message });
        }
    }
}

fn named_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

pub(crate) fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}
