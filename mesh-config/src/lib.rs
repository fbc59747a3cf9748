//! From mesh.yaml to an immutable, validated snapshot.
