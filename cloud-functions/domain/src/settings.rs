//! Limits and retention, in one place.

const MIB: u64 = 1024 * 1024;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Limits of the cloud side. The defaults suit a site of some thousand devices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// SHA-256 of the operator tokens that are accepted; none means that no operator can log in.
    pub operator_token_sha256: Vec<[u8; 32]>,
    /// Cost of bcrypt for `pwd-plain`, and the highest accepted in a `pwd-hash`; 4 to 31. Hono's default maximum is 10.
    pub bcrypt_cost: u32,
    /// Longest wait of a long poll, in seconds; below the 29 s an API Gateway waits for a function.
    pub wait_s_max: u64,
    /// Life of an enrolment token, in milliseconds.
    pub enrolment_token_ms: u64,
    /// Bytes of live telemetry kept per partition, as stored (compressed).
    pub telemetry_bytes_per_partition: u64,
    /// Records of live telemetry kept per partition.
    pub telemetry_records_per_partition: u64,
    /// Bytes of stored classes kept per tenant, as stored (compressed).
    pub stored_bytes_per_tenant: u64,
    /// Age up to which records of stored classes are kept, in milliseconds.
    pub stored_age_ms: u64,
    /// How long a finished command can be looked up, in milliseconds.
    pub finished_command_ms: u64,
    /// Time past its deadline for which a command that waits on an edge may still be reported on, in milliseconds.
    pub expiry_grace_ms: u64,
    /// Commands of one device that may wait.
    pub waiting_commands_per_device: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            operator_token_sha256: Vec::new(),
            bcrypt_cost: 10,
            wait_s_max: 25,
            enrolment_token_ms: DAY_MS,
            telemetry_bytes_per_partition: 64 * MIB,
            telemetry_records_per_partition: 1_000_000,
            stored_bytes_per_tenant: 1024 * MIB,
            stored_age_ms: 7 * DAY_MS,
            finished_command_ms: 7 * DAY_MS,
            expiry_grace_ms: 60_000,
            waiting_commands_per_device: 1000,
        }
    }
}
