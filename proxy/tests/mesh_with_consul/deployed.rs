//! The configuration of the mesh that `make up` and the containers start is a good one.

use testkit::Program;

#[tokio::test]
async fn the_started_meshs_configuration_is_valid() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/local/mesh.yaml");
    let checked = Program::new("highpress-proxy").args(["check", file]);
    let ended = checked.run().await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
}
