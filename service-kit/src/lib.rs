//! What every program of the mesh does the same: telemetry, readiness, admin HTTP, drain.
