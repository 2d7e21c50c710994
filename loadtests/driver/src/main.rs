//! The load driver: open and closed loop, many connections, CPU cost per message.
fn main() {}
