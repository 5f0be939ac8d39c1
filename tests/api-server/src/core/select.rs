//! Label and field selectors.

use serde_json::Value;

use crate::answer::Refusal;
use crate::request::Request;

#[derive(Clone, Debug)]
enum Rule {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

/// Which objects a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Rule>,
    fields: Vec<Rule>,
}

impl Selector {
    pub(crate) fn of(request: &Request, name: &str) -> Result<Self, Refusal> {
        let mut fields = rules(request.parameter("fieldSelector").unwrap_or_default())?;
        if !name.is_empty() {
            fields.push(Rule::Is("metadata.name".to_owned(), name.to_owned()));
        }
        Ok(Self { labels: rules(request.parameter("labelSelector").unwrap_or_default())?, fields })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn takes(&self, object: &Value) -> bool {
        self.is_empty() || {
            let label = |key: &str| object.get("metadata")?.get("labels")?.get(key)?.as_str();
            let field = |path: &str| {
                Some(path.split('.').try_fold(object, |at, step| at.get(step))?.as_str().unwrap_or_default())
            };
            self.labels.iter().all(|rule| rule.holds(label)) && self.fields.iter().all(|rule| rule.holds(field))
        }
    }
}

impl Rule {
    fn holds<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::Is(key, wanted) => value(key) == Some(wanted),
            Self::IsNot(key, unwanted) => value(key) != Some(unwanted),
            Self::Has(key) => value(key).is_some(),
            Self::HasNot(key) => value(key).is_none(),
        }
    }
}

fn rules(text: &str) -> Result<Vec<Rule>, Refusal> {
    let rule = |text: &str| {
        let own = |text: &str| text.trim().to_owned();
        if text.contains(['(', ')']) {
            return Err(Refusal::new(400, "BadRequest", format!("selectors of sets are not served here: {text}")));
        }
        Ok(match (text.split_once("!="), text.split_once("=="), text.split_once('='), text.strip_prefix('!')) {
            (Some((key, value)), ..) => Rule::IsNot(own(key), own(value)),
            (_, Some((key, value)), ..) | (_, _, Some((key, value)), _) => Rule::Is(own(key), own(value)),
            (.., Some(key)) => Rule::HasNot(own(key)),
            _ => Rule::Has(own(text)),
        })
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(rule).collect()
}
