//! The metadata service of a machine of the cloud (ECS), version 2: the key of the role that the machine plays.
//!
//! **May touch:** the network, through a transport.
//!
//! **Guarantees**
//! 1. Each question bears a token of its own, so that a request forged through somebody else's proxy gets nothing.
//! 2. What the service says is never part of a path unless it can be the name of a role.
//!
//! Source: the official credential providers; the vendor's page on instance metadata.

use http::HeaderValue;

use super::error::Error;
use super::model::Answer;
use super::{AccessKey, AssumedRole, Client, Endpoint, Operation, Reply, TransportError};

const TOKEN: &str = "/latest/api/token";
const KEYS: &str = "/latest/meta-data/ram/security-credentials/";
/// Seconds for which a token is good: it serves one question.
const LIFE: &str = "60";

/// Why there is no key of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineProblem {
    /// The machine plays no role.
    NoRole,
    /// The service failed or was not reached.
    Failed(Error),
}

impl Client {
    /// A key of the role that this machine plays: of `role`, if its name is known. Three requests.
    ///
    /// # Errors
    /// [`MachineProblem`] says whether there is no role or no answer.
    pub async fn machine_key(
        &self,
        endpoint: &Endpoint,
        role: Option<&str>,
    ) -> Result<Reply<AssumedRole>, MachineProblem> {
        let put = http::Request::put(format!("{}{TOKEN}", endpoint.origin()));
        let put = put.header("x-aliyun-ecs-metadata-token-ttl-seconds", LIFE).body(Vec::new());
        let mut token = HeaderValue::try_from(self.told(put).await?)
            .map_err(|_| MachineProblem::Failed(unreadable(200, "the token is no plain text")))?;
        token.set_sensitive(true);
        let get = |path: &str| {
            let request = http::Request::get(format!("{}{path}", endpoint.origin()));
            request.header("x-aliyun-ecs-metadata-token", token.clone()).body(Vec::new())
        };
        let role = match role {
            Some(role) => role.to_owned(),
            None => self.told(get(KEYS)).await?.trim().to_owned(),
        };
        if !is_role(&role) {
            return Err(MachineProblem::NoRole);
        }
        let reply = self.call(Operation::MachineKey, get(&format!("{KEYS}{role}")), key).await;
        match &reply.result {
            Err(error) if error.http_status == Some(404) => Err(MachineProblem::NoRole),
            Ok(_) | Err(_) => Ok(reply),
        }
    }

    /// The text of an answer.
    async fn told(&self, request: http::Result<http::Request<Vec<u8>>>) -> Result<String, MachineProblem> {
        let failed = |problem: &TransportError| {
            let never_left = matches!(problem, TransportError::NeverLeft(_));
            MachineProblem::Failed(Error::unanswered(Operation::MachineKey, never_left, &problem.to_string()))
        };
        let request = request.map_err(|problem| failed(&TransportError::NeverLeft(problem.to_string())))?;
        let answer = self.transport.send(request).await.map_err(|problem| failed(&problem))?;
        match answer.status().as_u16() {
            200 => String::from_utf8(answer.into_body())
                .map_err(|_| MachineProblem::Failed(unreadable(200, "the answer is no text"))),
            404 => Err(MachineProblem::NoRole),
            status => Err(MachineProblem::Failed(unreadable(status, "it is refused"))),
        }
    }
}

fn unreadable(status: u16, problem: &str) -> Error {
    Error::unreadable(Operation::MachineKey, status, problem, None)
}

/// Names of RAM roles.
fn is_role(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && name.bytes().any(|byte| byte != b'.')
}

fn key(answer: &Answer) -> Option<AssumedRole> {
    let text = |name| answer.text(name);
    if text("Code")? != "Success" {
        return None;
    }
    let key = AccessKey::new(&text("AccessKeyId")?, &text("AccessKeySecret")?, Some(&text("SecurityToken")?)).ok()?;
    Some(AssumedRole { key, expiration: text("Expiration")?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use super::super::ErrorKind;
    use super::super::transport::{Sending, Transport};
    use super::*;

    const KEY: &str = r#"{"Code":"Success","AccessKeyId":"STS.id","AccessKeySecret":"canary-lent","SecurityToken":"canary-token",
        "Expiration":"2026-01-02T04:04:05Z","LastUpdated":"2026-01-01T22:04:05Z"}"#;

    /// Keeps what is asked, and answers in turn.
    #[derive(Debug)]
    struct Machine {
        asked: Mutex<Vec<String>>,
        answers: Mutex<VecDeque<(u16, &'static str)>>,
    }

    impl Transport for Machine {
        fn send(&self, request: http::Request<Vec<u8>>) -> Sending<'_> {
            let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            let token = header("x-aliyun-ecs-metadata-token").or(header("x-aliyun-ecs-metadata-token-ttl-seconds"));
            let asked = format!("{} {} {}", request.method(), request.uri(), token.unwrap_or_default());
            self.asked.lock().unwrap().push(asked);
            let answer = self.answers.lock().unwrap().pop_front();
            Box::pin(async move {
                let (status, body) = answer.ok_or(TransportError::NeverLeft("no route".to_owned()))?;
                Ok(http::Response::builder().status(status).body(body.into()).unwrap())
            })
        }
    }

    async fn ask(
        role: Option<&str>,
        answers: &[(u16, &'static str)],
    ) -> (Result<Reply<AssumedRole>, MachineProblem>, Vec<String>) {
        let machine =
            Arc::new(Machine { asked: Mutex::default(), answers: Mutex::new(answers.iter().copied().collect()) });
        let told = Client::new(machine.clone()).machine_key(&Endpoint::of_metadata(), role).await;
        let asked = machine.asked.lock().unwrap().clone();
        (told, asked)
    }

    #[tokio::test]
    async fn a_token_the_role_and_its_key_are_asked_for_one_after_the_other() {
        let (told, asked) = ask(None, &[(200, "t=="), (200, "starter\n"), (200, KEY)]).await;
        let lent = told.unwrap().result.unwrap();
        assert_eq!((lent.key.id.as_str(), lent.expiration), ("STS.id", "2026-01-02T04:04:05Z".parse().unwrap()));
        let at = "http://100.100.100.200/latest";
        let keys = format!("{at}/meta-data/ram/security-credentials/");
        let expected = [format!("PUT {at}/api/token 60"), format!("GET {keys} t=="), format!("GET {keys}starter t==")];
        assert_eq!(asked, expected);
        let (told, asked) = ask(Some("named"), &[(200, "t"), (200, KEY)]).await;
        assert!(told.unwrap().result.is_ok());
        assert_eq!(asked.last(), Some(&format!("GET {keys}named t")));
    }

    #[tokio::test]
    async fn a_machine_without_a_role_is_told_from_a_service_that_fails() {
        for answers in [
            &[(200, "t"), (404, "")][..],
            &[(200, "t"), (200, "")],
            &[(200, "t"), (200, "../../api/token")],
            &[(200, "t"), (200, "..")],
            &[(200, "t"), (200, "starter"), (404, "")],
        ] {
            assert_eq!(ask(None, answers).await.0.unwrap_err(), MachineProblem::NoRole, "{answers:?}");
        }
        for answers in [&[][..], &[(403, "")], &[(200, "t"), (500, "")], &[(200, "a\nb")]] {
            let MachineProblem::Failed(error) = ask(None, answers).await.0.unwrap_err() else {
                unreachable!("{answers:?}")
            };
            assert_eq!((error.operation, error.kind), (Operation::MachineKey, ErrorKind::Server), "{answers:?}");
        }
        for key in ["{}", "starter", r#"{"Code":"Failed","AccessKeyId":"a","AccessKeySecret":"b","SecurityToken":"c"}"#]
        {
            let (told, _) = ask(Some("starter"), &[(200, "t"), (200, key)]).await;
            assert_eq!(told.unwrap().result.unwrap_err().kind, ErrorKind::Server, "{key}");
        }
    }

    #[tokio::test]
    async fn the_canary_appears_in_no_output() {
        let (told, _) = ask(None, &[(200, "canary-t"), (200, "starter"), (200, KEY)]).await;
        let (failed, _) = ask(None, &[(200, "canary-t"), (500, "canary-page")]).await;
        assert!(!format!("{told:?} {failed:?}").contains("canary"), "{told:?} {failed:?}");
    }
}
