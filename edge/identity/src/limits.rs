//! Every bound of this crate, with its reason.

/// Memory redb may use for its page cache, in bytes. A login touches a handful of pages; the kernel's cache holds more.
pub const STORE_CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Delivered commands whose ids are remembered. They matter only when a feed is replayed between a delivery and the
/// cloud learning of it, so it is sized for an outage: 65 536 deliveries without the cloud, about 10 MB of disk.
pub const DONE_MARKERS_MAX: u64 = 65_536;

/// Commands one call to `expire_commands` returns; the caller calls again.
pub const EXPIRE_BATCH_MAX: usize = 1_000;

/// Passwords remembered as verified, 32 bytes each.
pub const MEMO_ENTRIES_MAX: usize = 10_000;

/// Buckets of the logins one shard knows to be good. With [`KNOWN_LOGINS_PER_BUCKET`] they hold 65 536 logins, more
/// devices than a core serves comfortably; an entry takes about 140 bytes and is allocated when it is learnt, so a
/// full memory costs a shard 9 MB.
pub const KNOWN_LOGINS_BUCKETS: usize = 8_192;

/// Logins of one bucket: enough that half a full memory finds room before anything is forgotten, few enough to be
/// compared one by one.
pub const KNOWN_LOGINS_PER_BUCKET: usize = 8;

/// Longest user name and password together that are remembered as good, in bytes. Naming one costs the shard a
/// microsecond; tokens are longer and not remembered anyway.
pub const KNOWN_LOGIN_BYTES_MAX: usize = 512;

/// Good logins that wait for their shard to learn them: as many as it can have asked about in the quick lane.
pub const LESSONS_WAITING_MAX: usize = QUICK_QUEUE_DEFAULT;

/// Groups of tenants whose changes are told apart. A change makes its group's logins be looked up anew, so with more
/// groups than a node has tenants few are disturbed by another; a group takes 8 bytes.
pub const EDITION_GROUPS: usize = 1_024;

/// Highest bcrypt cost that is computed, about a second of one core. The registry makes hashes of cost 10; without a
/// limit one document could occupy a verify thread for hours.
pub const BCRYPT_COST_MAX: u32 = 14;

/// bcrypt cost of a refused login that had nothing better to compute: the registry's own.
pub const BCRYPT_COST_OF_REFUSAL: u32 = 10;

/// Slow hashes or signatures computed for one login. A credential has one secret, or two while it is being rotated.
pub const SLOW_SECRETS_MAX: usize = 8;

/// Certificates of one chain: the client's own, and authorities between it and the tenant's anchor.
pub const CHAIN_CERTIFICATES_MAX: usize = 8;

/// Gateways named as those that may act for one device.
pub const GATEWAYS_OF_DEVICE_MAX: usize = 256;

/// Devices looked at to find those behind one gateway: tens of milliseconds of the store thread.
pub const DEVICES_OF_GATEWAY_MAX: usize = 10_000;

/// Verify threads if nothing else is configured.
pub const VERIFY_THREADS_DEFAULT: usize = 1;

/// Logins waiting for the quick lane, which takes microseconds each.
pub const QUICK_QUEUE_DEFAULT: usize = 1_024;

/// Logins waiting for a verify thread. At cost 10 one thread computes about 20 in a second, so more than this would
/// wait beyond [`LOGIN_WAIT_MAX_MS`] anyway.
pub const SLOW_QUEUE_DEFAULT: usize = 256;

/// Work waiting for the store thread.
pub const STORE_QUEUE_DEFAULT: usize = 1_024;

/// A login that waited longer is answered `Unavailable` and not computed: its device has gone or will retry, in
/// milliseconds.
pub const LOGIN_WAIT_MAX_MS: u64 = 8_000;

const _: () = assert!(BCRYPT_COST_OF_REFUSAL <= BCRYPT_COST_MAX);
const _: () = assert!(MEMO_ENTRIES_MAX >= 2, "the memo has two halves");
// Both are divisors.
const _: () = assert!(KNOWN_LOGINS_BUCKETS > 0 && EDITION_GROUPS > 0);
