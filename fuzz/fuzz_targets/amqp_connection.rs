#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fulcrum_fuzz::amqp_connection::run(input));
