//! Consul over TLS, with certificates as `consul tls` makes them.

use serde_json::json;
use testkit::Consul;
use testkit::wait::PATIENCE;

use super::setup::{Gateway, SERVICE, config, counter, counter_program, grpc, refused};

fn tls_config(consul: &Consul, more: &str) -> String {
    let plain = config(consul, "", "");
    let ca = consul.file("consul-agent-ca.pem");
    plain.replace(
        &format!("address: \"{}\"", consul.url()),
        &format!(
            "address: \"{}\", ca: \"{}\"{more}",
            consul.https_url(),
            ca.display()
        ),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_and_services_speak_tls_and_show_their_certificate() {
    let consul = Consul::with_tls(true).await;
    let cert = consul.file("dc1-client-consul-0.pem");
    let key = consul.file("dc1-client-consul-0-key.pem");
    // By flags, and by the variables of Consul's own tools.
    let one = counter_program()
        .args(["--consul", &consul.https_url(), "--consul-ca"])
        .arg(consul.file("consul-agent-ca.pem"))
        .arg("--consul-cert")
        .arg(&cert)
        .arg("--consul-key")
        .arg(&key)
        .start()
        .await;
    let variable =
        |name: &str, file: &str| (name.to_owned(), consul.file(file).display().to_string());
    let two = [
        variable("CONSUL_CACERT", "consul-agent-ca.pem"),
        variable("CONSUL_CLIENT_CERT", "dc1-client-consul-0.pem"),
        variable("CONSUL_CLIENT_KEY", "dc1-client-consul-0-key.pem"),
    ]
    .into_iter()
    .fold(counter_program(), |program, (name, value)| {
        program.env(&name, &value)
    })
    .args(["--consul", &consul.https_url()])
    .start()
    .await;
    let more = format!(", cert: \"{}\", key: \"{}\"", cert.display(), key.display());
    let gateway = Gateway::start(&tls_config(&consul, &more)).await;
    gateway.expect_usable(&[grpc(&one), grpc(&two)]).await;
    assert_eq!(gateway.read().await, 200);
    assert!(one.stop_within(PATIENCE).await.success());
    gateway.expect_usable(&[grpc(&two)]).await;

    // Without a certificate of its own, nobody is let in; and that is said.
    let bare = Gateway::start(&tls_config(&consul, "")).await;
    bare.expect_consul(false).await;
    let line = bare
        .program
        .line_with("Consul gives no answer to go by")
        .await;
    assert!(line.to_lowercase().contains("certificate"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_consul_is_not_believed() {
    let (consul, other) = (Consul::with_tls(false).await, Consul::with_tls(false).await);
    let one = counter().await;
    consul.register(SERVICE, "one", grpc(&one), json!({})).await;
    let good = Gateway::start(&tls_config(&consul, "")).await;
    good.expect_usable(&[grpc(&one)]).await;
    let named = Gateway::start(&tls_config(&consul, ", server_name: server.dc1.consul")).await;
    named.expect_usable(&[grpc(&one)]).await;

    // Another authority's certificate, and one for another name.
    let strange = tls_config(&consul, "").replace(
        &consul.file("").display().to_string(),
        &other.file("").display().to_string(),
    );
    for (config, word) in [
        (strange, "certificate"),
        (
            tls_config(&consul, ", server_name: elsewhere.internal"),
            "certificate",
        ),
    ] {
        let gateway = Gateway::start(&config).await;
        let line = gateway
            .program
            .line_with("Consul gives no answer to go by")
            .await;
        assert!(line.contains(word), "{line}");
        gateway.expect_usable(&[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_not_there_are_a_mistake_with_its_place() {
    let consul = Consul::absent();
    let config = config(&consul, "", "").replace("\"http://", "\"https://");
    let config = config.replace(", token: \"\"", ", ca: nowhere.pem");
    let said = refused(&config).await;
    assert!(
        said.contains("consul.ca") && said.contains("nowhere.pem"),
        "{said}"
    );
}
