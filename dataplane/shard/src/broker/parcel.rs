//! What crosses a lane, or waits in the journal to cross it: a message and what the other shard must know beside it.
//!
//! ```text
//!  boot u64 │ publisher shard u16 │ publisher key u64 │ retain version u64 │ flags u8 │ picks u16 │ pick … │ frame
//!  pick: key u64 │ qos u8 │ retain as published u8 │ subscription id u32 │ group u32         little endian
//! ```

use fulcrum_router::{GroupRef, LinkId, ShardIndex, Subscriber};
use std::num::NonZeroU32;

pub(super) const HEAD_BYTES: usize = 29;
pub(super) const PICK_BYTES: usize = 18;
const HAS_PUBLISHER: u8 = 1;
const IS_DELIVERED: u8 = 2;

/// A member of a shared subscription whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pick {
    pub link: LinkId,
    pub qos: u8,
    pub retain_as_published: bool,
    pub subscription_id: u32,
    /// The tag of its group, for whoever finds the member gone.
    pub group: NonZeroU32,
}

impl Pick {
    pub(crate) fn new(group: GroupRef, member: &Subscriber) -> Pick {
        Pick {
            link: member.link,
            qos: member.qos,
            retain_as_published: member.retain_as_published,
            subscription_id: member.subscription_id,
            group: group.tag(),
        }
    }
}

/// A message on its way to another shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Parcel<'a> {
    /// The run of the node the picks' keys are of.
    pub boot: u64,
    /// Who published, for No Local.
    pub publisher: Option<LinkId>,
    /// Not 0: it is retained under this version.
    pub retain_version: u64,
    /// Whether subscribers get it, or it is here to be retained alone.
    pub deliver: bool,
    pub(super) picks: &'a [u8],
    /// The message's frame.
    pub frame: &'a [u8],
}

impl<'a> Parcel<'a> {
    /// A parcel to be written with [`Parcel::write`].
    pub(crate) fn new(boot: u64, frame: &'a [u8]) -> Parcel<'a> {
        Parcel { boot, publisher: None, retain_version: 0, deliver: true, picks: &[], frame }
    }

    /// Writes it with these picks, all of the shard it is for.
    pub(crate) fn write<'p>(&self, picks: impl Iterator<Item = &'p Pick>, out: &mut Vec<u8>) {
        out.clear();
        let publisher = self.publisher.unwrap_or(LinkId { shard: ShardIndex(0), key: 0 });
        out.extend_from_slice(&self.boot.to_le_bytes());
        out.extend_from_slice(&publisher.shard.0.to_le_bytes());
        out.extend_from_slice(&publisher.key.to_le_bytes());
        out.extend_from_slice(&self.retain_version.to_le_bytes());
        let has_publisher = if self.publisher.is_some() { HAS_PUBLISHER } else { 0 };
        out.push(has_publisher | if self.deliver { IS_DELIVERED } else { 0 });
        let count_at = out.len();
        out.extend_from_slice(&[0; 2]);
        let mut count = 0_u16;
        for pick in picks.take(usize::from(u16::MAX)) {
            out.extend_from_slice(&pick.link.key.to_le_bytes());
            out.extend_from_slice(&[pick.qos, pick.retain_as_published.into()]);
            out.extend_from_slice(&pick.subscription_id.to_le_bytes());
            out.extend_from_slice(&pick.group.get().to_le_bytes());
            count += 1;
        }
        out[count_at..count_at + 2].copy_from_slice(&count.to_le_bytes());
        out.extend_from_slice(self.frame);
    }

    /// Takes bytes apart; `None` if they are no parcel.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Parcel<'a>> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let u64_at = |at: usize| head.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let u16_at = |at: usize| head.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes);
        let flags = *head.get(26)?;
        let publisher = LinkId { shard: ShardIndex(u16_at(8)?), key: u64_at(10)? };
        let (picks, frame) = rest.split_at_checked(usize::from(u16_at(27)?) * PICK_BYTES)?;
        Some(Parcel {
            boot: u64_at(0)?,
            publisher: (flags & HAS_PUBLISHER != 0).then_some(publisher),
            retain_version: u64_at(18)?,
            deliver: flags & IS_DELIVERED != 0,
            picks,
            frame,
        })
    }

    /// Members of shared subscriptions that get a copy, on the shard `here` that the parcel came to.
    pub(crate) fn picks(&self, here: ShardIndex) -> impl Iterator<Item = Pick> + use<'a> {
        self.picks.chunks_exact(PICK_BYTES).filter_map(move |bytes| {
            let u32_at = |at: usize| bytes[at..at + 4].try_into().ok().map(u32::from_le_bytes);
            let key = u64::from_le_bytes(bytes.first_chunk().copied()?);
            Some(Pick {
                link: LinkId { shard: here, key },
                qos: bytes[8],
                retain_as_published: bytes[9] != 0,
                subscription_id: u32_at(10)?,
                group: NonZeroU32::new(u32_at(14)?)?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_reads_back_as_written_and_refuses_anything_shorter_than_its_head() {
        let publisher = LinkId { shard: ShardIndex(3), key: 1 << 40 };
        let parcel = Parcel {
            publisher: Some(publisher),
            retain_version: 99,
            deliver: false,
            ..Parcel::new(7, b"frame")
        };
        let here = ShardIndex(1);
        let one = Pick {
            link: LinkId { shard: here, key: 5 },
            qos: 2,
            retain_as_published: true,
            subscription_id: 268_435_455,
            group: NonZeroU32::MAX,
        };
        let other = Pick {
            link: LinkId { shard: here, key: u64::MAX },
            qos: 0,
            retain_as_published: false,
            subscription_id: 0,
            group: NonZeroU32::MIN,
        };
        let picks = [one, other];
        let mut bytes = Vec::new();
        parcel.write(picks.iter(), &mut bytes);
        let read = Parcel::parse(&bytes).unwrap();
        assert!(read.picks(here).eq(picks));
        assert_eq!(Parcel { picks: &[], ..read }, parcel);
        let head_and_picks = bytes.len() - b"frame".len();
        assert!(
            (0..head_and_picks).all(|bytes_left| Parcel::parse(&bytes[..bytes_left]).is_none())
        );
    }
}
