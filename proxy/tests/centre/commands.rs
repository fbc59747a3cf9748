//! `highpress-proxy config`: what people do to a configuration in Consul, and what they cannot do to each other.

use serde_json::Value;
use testkit::Consul;
use testkit::consul::MANAGEMENT;
use testkit::program::Ended;
use testkit::wait::{PATIENCE, eventually};

use super::setup::{Gateway, HISTORY, KEY, expect_entries, file, proxy, sends_to};

/// Runs `highpress-proxy config` as `user`.
async fn config_as(user: &str, consul: &Consul, args: &[&str]) -> Ended {
    let program = proxy()
        .args(["config", "--consul", &consul.url()])
        .args(args)
        .env("USER", user)
        .env("CONSUL_HTTP_TOKEN", "");
    program.run().await
}

async fn done(consul: &Consul, args: &[&str]) -> String {
    let ended = config_as("ann", consul, args).await;
    assert_eq!(ended.status.code(), Some(0), "{args:?}: {}", ended.output);
    ended.output
}

async fn refused(consul: &Consul, args: &[&str], status: i32) -> String {
    let ended = config_as("ann", consul, args).await;
    assert_eq!(
        ended.status.code(),
        Some(status),
        "{args:?}: {}",
        ended.output
    );
    ended.output
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

async fn index(consul: &Consul) -> String {
    let entry = consul.get(&format!("/v1/kv/{KEY}")).await;
    entry[0]["ModifyIndex"].to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_set_shown_compared_and_rolled_back() {
    let consul = Consul::dev().await;
    let gateway = Gateway::start(&file(&consul, "")).await;
    let files = Files::new();
    let (one, two) = (
        files.write("one.yaml", &sends_to("one")),
        files.write("two.yaml", &sends_to("two")),
    );
    assert!(
        refused(&consul, &["get"], 1)
            .await
            .contains("there is no key")
    );
    let said = done(&consul, &["set", &one, "--dry-run"]).await;
    assert!(
        said.contains("+    redirect: { host: one }") && said.contains("dry run"),
        "{said}"
    );
    assert_eq!(consul.key(KEY).await, None);

    let said = done(&consul, &["set", &one, "--note", "the first"]).await;
    let first = index(&consul).await;
    assert!(
        said.ends_with(&format!("version {first} of {KEY} written\n")),
        "{said}"
    );
    gateway.expect_host("one").await;
    let said = done(&consul, &["set", &two]).await;
    assert!(
        said.contains("-    redirect: { host: one }\n+    redirect: { host: two }\n"),
        "{said}"
    );
    gateway.expect_host("two").await;
    let second = index(&consul).await;
    assert_eq!(done(&consul, &["get"]).await, sends_to("two"));
    assert_eq!(
        done(&consul, &["get", "--version", &first]).await,
        sends_to("one")
    );
    let said = done(&consul, &["set", &two]).await;
    assert_eq!(
        said,
        format!("nothing to write: version {second} says the same\n")
    );

    let diff = done(&consul, &["diff"]).await;
    assert!(
        diff.starts_with(&format!("--- version {first}\n+++ version {second}\n@@ ")),
        "{diff}"
    );
    let back = done(&consul, &["diff", &second, &first]).await;
    assert!(
        back.contains("-    redirect: { host: two }\n+    redirect: { host: one }\n"),
        "{back}"
    );

    let said = done(&consul, &["rollback"]).await;
    assert!(said.contains("written"), "{said}");
    gateway.expect_host("one").await;
    let third = index(&consul).await;
    let all = expect_entries(&consul, 3).await;
    let author = all[0]["author"].as_str().unwrap();
    assert!(author.starts_with("ann@"), "{author}");
    assert_eq!(all[0]["note"], "the first");
    assert_eq!(all[2]["note"], format!("rollback to version {first}"));
    done(&consul, &["rollback", &second, "--note", "after all"]).await;
    gateway.expect_host("two").await;

    // What somebody has written past the command, and badly: it is in the history, and a rollback passes it over.
    consul.put_key(KEY, "clusters: 7\n").await;
    gateway.expect_rejected(&format!("kv:{KEY}")).await;
    expect_entries(&consul, 5).await;
    let table = done(&consul, &["history"]).await;
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[1].starts_with('*') && lines[1].contains("rejected"),
        "{table}"
    );
    assert!(
        lines[1].contains("observed") && lines[2].contains("clusters: this is a number"),
        "{table}"
    );
    assert!(
        lines[3].contains("ann@") && lines[3].ends_with("after all"),
        "{table}"
    );
    assert!(
        lines[4].contains(&third) && lines[4].contains("applied"),
        "{table}"
    );
    done(&consul, &["rollback"]).await;
    gateway.expect_host("two").await;
    let rejects_nothing = |now: &Value| now["rejected"].is_null();
    gateway
        .config_with("nothing to be refused", rejects_nothing)
        .await;
    let json: Value = serde_json::from_str(&done(&consul, &["history", "--json"]).await).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 6);
    assert!(
        json[0]["diff"].as_str().unwrap().contains("-clusters: 7"),
        "{json}"
    );

    consul.delete_key(KEY).await;
    gateway.expect_host("file").await;
    done(&consul, &["rollback"]).await;
    gateway.expect_host("two").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_is_one_command_where_the_value_replaces_only_some_keys_too() {
    let consul = Consul::dev().await;
    let gateway = Gateway::start(&file(&consul, "")).await;
    let part = |memory: &str| format!("overload: {{ memory: {memory} }}\n");
    consul.put_key(KEY, &part("900MiB")).await;
    expect_entries(&consul, 1).await;
    consul.put_key(KEY, &part("none")).await;
    gateway.expect_rejected(&format!("kv:{KEY}")).await;
    expect_entries(&consul, 2).await;
    let said = done(&consul, &["rollback"]).await;
    assert!(said.contains("nobody refused it then"), "{said}");
    assert_eq!(consul.key(KEY).await, Some(part("900MiB")));
    eventually("the rollback to be in force", PATIENCE, async || {
        let config = gateway.config().await;
        let good = config["rejected"].is_null();
        if good { Ok(()) } else { Err(config) }
    })
    .await;

    // What was refused is not taken on trust, and a first value has nobody to vouch for it.
    let all = expect_entries(&consul, 3).await;
    let bad = all.iter().find(|one| !one["rejected"].is_null());
    let bad = bad.unwrap()["version"].to_string();
    refused(&consul, &["rollback", &bad], 2).await;
    let files = Files::new();
    let said = refused(&consul, &["set", &files.write("part", &part("800MiB"))], 2).await;
    assert!(said.contains("give that file by --file"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_who_was_faster_is_named_and_not_overwritten() {
    let consul = Consul::dev().await;
    let files = Files::new();
    let path = |name: &str| files.write(name, &sends_to(name));
    done(&consul, &["set", &path("one")]).await;
    let base = index(&consul).await;
    let ended = config_as("bob", &consul, &["set", &path("bobs"), "--base", &base]).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    let now = index(&consul).await;
    let said = refused(&consul, &["set", &path("anns"), "--base", &base], 1).await;
    for part in [
        format!("on top of version {base}"),
        format!("has version {now} now, written by bob@"),
        format!("config diff {base} {now}"),
        format!("--base {now}"),
        "Nothing was written".to_owned(),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    assert_eq!(consul.key(KEY).await, Some(sends_to("bobs")));
    done(&consul, &["set", &path("anns"), "--base", &now]).await;
    let said = refused(&consul, &["set", &path("new"), "--base", "0"], 1).await;
    assert!(said.contains("written by ann@"), "{said}");

    // Eight at once, all on top of the same version: one of them is first.
    let now = index(&consul).await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (path, base) = (path(&format!("w{n}")), now.clone());
        let program = proxy().args([
            "config",
            "--consul",
            &consul.url(),
            "set",
            &path,
            "--base",
            &base,
        ]);
        writers.spawn(async move { program.run().await });
    }
    let ended = writers.join_all().await;
    let codes: Vec<_> = ended.iter().map(|ended| ended.status.code()).collect();
    let written = codes.iter().filter(|code| **code == Some(0)).count();
    let lost = codes.iter().filter(|code| **code == Some(1)).count();
    assert_eq!((written, lost), (1, 7), "{codes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gateway_would_refuse_is_not_written() {
    let consul = Consul::dev().await;
    let files = Files::new();
    let bad = files.write(
        "bad.yaml",
        &(sends_to("x") + "  - name: b\n    to: nowhere\n"),
    );
    let said = refused(&consul, &["set", &bad], 2).await;
    assert!(
        said.contains(&format!("{bad}:8: routes[1].to: there is no cluster")),
        "{said}"
    );
    // A part of a configuration is one with the file that it lies over, and none without.
    let part = files.write(
        "part.yaml",
        "routes: [{ name: a, match: { path_prefix: / }, redirect: { host: part } }]\n",
    );
    let said = refused(&consul, &["set", &part], 2).await;
    assert!(said.contains("clusters: missing"), "{said}");
    let mesh = files.write("mesh.yaml", &file(&consul, ""));
    done(&consul, &["set", &part, "--file", &mesh]).await;
    let long = files.write("long.yaml", &(sends_to("x") + "#" + &"x".repeat(512 << 10)));
    let said = refused(&consul, &["set", &long], 2).await;
    assert!(said.contains("512 KiB"), "{said}");
    for (args, status, part) in [
        (vec!["set", "/nowhere.yaml"], 2, "cannot read it"),
        (vec!["get", "--version", "99999"], 2, "no version 99999"),
        (vec!["get", "--kv", "/a"], 2, "not a key"),
        (
            vec!["get", "--env", "a/b"],
            2,
            "not the name of an environment",
        ),
        (vec!["diff", "1", "2", "3"], 2, "unexpected argument"),
        (
            vec!["get", "--env", "staging"],
            1,
            "high-go-press/config/staging/gateway",
        ),
    ] {
        let said = refused(&consul, &args, status).await;
        assert!(said.contains(part), "{args:?}: {said}");
    }
    let ended = proxy()
        .args(["config", "get", "--consul", "http://127.0.0.1:1"])
        .run()
        .await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
    assert!(ended.output.contains("cannot connect"), "{}", ended.output);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_rights_are_named_by_rule_and_key() {
    let consul = Consul::with_acls().await;
    let files = Files::new();
    let one = files.write("one.yaml", &sends_to("one"));
    let said = refused(
        &consul,
        &["get", "--token", "99999999-2222-3333-4444-555555555555"],
        1,
    )
    .await;
    assert!(said.contains("403") && said.contains("`key:"), "{said}");
    let reader = consul
        .token("key_prefix \"high-go-press/\" { policy = \"read\" }")
        .await;
    let said = refused(&consul, &["set", &one, "--token", &reader], 1).await;
    assert!(said.contains(&format!("`key:write` on `{KEY}`")), "{said}");
    assert!(!said.contains(&reader), "{said}");
    // Without rights for the history the value is written all the same, and that is said.
    let rules = format!("key \"{KEY}\" {{ policy = \"write\" }}");
    let narrow = consul.token(&rules).await;
    let said = done(&consul, &["set", &one, "--token", &narrow]).await;
    assert!(
        said.contains("not in the history") && said.contains(&format!("`key:write` on `{HISTORY}")),
        "{said}"
    );
    assert_eq!(consul.key(KEY).await, Some(sends_to("one")));
    let said = done(&consul, &["get", "--token", MANAGEMENT]).await;
    assert_eq!(said, sends_to("one"));
}
