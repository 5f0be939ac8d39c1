//! The CRDs as they are shipped.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt as _;

use super::{DataIntegrationJob, DataWorksAccount};

/// Both CRDs: as derived from the types, without `nullable` (to the API server null is absent), without descriptions
/// under `status` records (size), and with a status that says "never looked at" from the first moment.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![shipped(DataIntegrationJob::crd()), shipped(DataWorksAccount::crd())]
}

fn shipped(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let Some(root) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else { continue };
        each(root, &mut |schema| schema.nullable = None);
        let Some(status) = root.properties.as_mut().and_then(|p| p.get_mut("status")) else { continue };
        for (_, field) in status.properties.iter_mut().flatten() {
            // The field's own description stays: `kubectl explain` shows it.
            let own = field.description.take();
            each(field, &mut |schema| schema.description = None);
            field.description = own;
        }
        status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
    }
    crd
}

fn each(schema: &mut JSONSchemaProps, change: &mut impl FnMut(&mut JSONSchemaProps)) {
    change(schema);
    for (_, child) in schema.properties.iter_mut().flatten() {
        each(child, change);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(child)) => each(child, change),
        Some(JSONSchemaPropsOrArray::Schemas(children)) => children.iter_mut().for_each(|c| each(c, change)),
        None => {}
    }
}
