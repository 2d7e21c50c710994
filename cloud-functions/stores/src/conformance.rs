//! What the rules rely on, as a suite that every store must pass.
