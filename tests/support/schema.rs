//! A second reading of the CRD: does a value fit its schema?

use dijob_operator::api::{JobStatus, crds};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

/// What the API server would refuse or prune in `status`.
pub fn misfits(status: &JobStatus) -> Vec<String> {
    let mut found = Vec::new();
    SCHEMA.with(|schema| walk(schema, &serde_json::to_value(status).unwrap(), "status", &mut found));
    found
}

thread_local! {
    static SCHEMA: JSONSchemaProps = status_schema();
}

/// The status schema of `DataIntegrationJob`.
fn status_schema() -> JSONSchemaProps {
    let crd = crds().into_iter().find(|c| c.spec.names.kind == "DataIntegrationJob").unwrap();
    let root = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    root.properties.unwrap().remove("status").unwrap()
}

fn walk(schema: &JSONSchemaProps, value: &Value, at: &str, found: &mut Vec<String>) {
    let mut wrong = |what: String| found.push(format!("{at}: {what}"));
    let type_ = schema.type_.as_deref().unwrap_or("any");
    let fits = match (type_, value) {
        ("object", Value::Object(_))
        | ("array", Value::Array(_))
        | ("string", Value::String(_))
        | ("boolean", Value::Bool(_))
        | ("any", _) => true,
        ("integer", Value::Number(n)) => n.is_i64(),
        _ => false,
    };
    if !fits {
        return wrong(format!("{value} is no {type_}"));
    }
    if let Some(allowed) = &schema.enum_
        && !allowed.iter().any(|a| a.0 == *value)
    {
        wrong(format!("{value} is not among the values"));
    }
    if let (Some(text), Some(most)) = (value.as_str(), schema.max_length)
        && i64::try_from(text.chars().count()).unwrap() > most
    {
        wrong(format!("longer than {most}"));
    }
    if let (Some("int32"), Some(n)) = (schema.format.as_deref(), value.as_i64())
        && i32::try_from(n).is_err()
    {
        wrong(format!("{n} is no int32"));
    }
    if let Some(items) = value.as_array() {
        if schema.max_items.is_some_and(|most| i64::try_from(items.len()).unwrap() > most) {
            wrong(format!("{} items", items.len()));
        }
        if let Some(JSONSchemaPropsOrArray::Schema(each)) = &schema.items {
            items.iter().enumerate().for_each(|(n, item)| walk(each, item, &format!("{at}[{n}]"), found));
        }
    }
    if let Some(fields) = value.as_object() {
        walk_fields(schema, fields, at, found);
    }
}

fn walk_fields(schema: &JSONSchemaProps, fields: &serde_json::Map<String, Value>, at: &str, found: &mut Vec<String>) {
    for required in schema.required.iter().flatten() {
        if !fields.contains_key(required) {
            found.push(format!("{at}: {required} is missing"));
        }
    }
    for (name, value) in fields {
        match schema.properties.as_ref().and_then(|p| p.get(name)) {
            Some(field) => walk(field, value, &format!("{at}.{name}"), found),
            None => match &schema.additional_properties {
                Some(JSONSchemaPropsOrBool::Schema(field)) => walk(field, value, &format!("{at}.{name}"), found),
                Some(JSONSchemaPropsOrBool::Bool(_)) | None => found.push(format!("{at}: {name} would be pruned")),
            },
        }
    }
}
