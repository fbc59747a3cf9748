//! What the tests share: clients, and waiting for what Consul knows.

use std::collections::BTreeMap;
use std::time::Duration;

use consul::{Check, Client, Health, Instances, Registration, ServiceQuery, Watch, Weights};
use testkit::Consul;
use testkit::wait::{eventually, within};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn client(consul: &Consul) -> Client {
    with_token(consul, None)
}

pub(crate) fn with_token(consul: &Consul, token: Option<&str>) -> Client {
    Client::new(consul.url().parse().unwrap(), token).unwrap()
}

pub(crate) fn service(name: &str) -> ServiceQuery {
    ServiceQuery {
        service: name.to_owned(),
        ..ServiceQuery::default()
    }
}

pub(crate) fn health(found: &Instances) -> Vec<(&str, &Health)> {
    found
        .list
        .iter()
        .map(|one| (one.id.as_str(), &one.health))
        .collect()
}

/// The next answer for which `expected` holds.
pub(crate) async fn until(
    watch: &mut Watch<ServiceQuery>,
    what: &str,
    expected: impl Fn(&Instances) -> bool,
) -> Instances {
    let found = async {
        loop {
            let seen = watch.next().await;
            if expected(&seen.value) {
                return seen.value;
            }
        }
    };
    within(what, PATIENCE, found).await
}

pub(crate) fn registration(name: &str, check: Check) -> Registration {
    Registration {
        name: name.to_owned(),
        address: None,
        port: 5001,
        tags: vec!["v1".to_owned()],
        meta: BTreeMap::from([("admin_port".to_owned(), "81".to_owned())]),
        weights: Weights {
            passing: 2,
            warning: 1,
        },
        check,
        deregister_after: Duration::from_secs(60),
    }
}

pub(crate) async fn expect(consul: &Consul, name: &str, expected: Option<&str>) {
    let what = format!("{name} to be {expected:?} in Consul");
    eventually(&what, PATIENCE, async || {
        let found = consul.instances(name).await;
        let status = found.first().map(|(_, status)| status.as_str());
        if status == expected && found.len() <= 1 {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
}
