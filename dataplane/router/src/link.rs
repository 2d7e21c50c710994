//! Naming a link from anywhere in the node.

/// A shard's number, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardIndex(pub u16);

/// A link to a consumer: the shard its connection lives on and the connection's key there.
///
/// The key carries a generation, so a message for a link that has gone away finds nobody instead of a stranger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId {
    /// Where its connection lives.
    pub shard: ShardIndex,
    /// The connection's key on that shard.
    pub key: u64,
}

/// The shard that owns what `parts` name, out of `shards`: the same on every shard and at every start.
pub fn owner(parts: &[&str], shards: u16) -> ShardIndex {
    debug_assert!(shards > 0, "a node has at least one shard");
    let hash = stable_hash(parts);
    ShardIndex((hash % u64::from(shards.max(1))) as u16)
}

/// The same on every shard, in every run and on every host.
pub(crate) fn stable_hash(parts: &[&str]) -> u64 {
    // FNV-1a with a separator no identifier contains; only an even spread matters here.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ownership_is_stable_and_spread() {
        assert_eq!(owner(&["acme", "pump-7"], 8), owner(&["acme", "pump-7"], 8));
        let mut counts = [0; 4];
        for device in 0..4000 {
            counts[usize::from(owner(&["acme", &format!("d{device}")], 4).0)] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let spread: std::collections::BTreeSet<_> =
            [["ab", "c"], ["a", "bc"], ["abc", ""]].iter().map(|p| owner(p, u16::MAX)).collect();
        assert_eq!(spread.len(), 3);
    }
}
