//! Real servers on free ports, scripted backends, black-box programs: for tests only.
